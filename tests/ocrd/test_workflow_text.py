"""Parsing of workflows, compared with `shlex` and with OCR-D's own parser."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import workflow_text
from ocr_tasks.ocrd.model import Step

#: What OCR-D's parser returns for workflows: a list of steps each, or the type of the exception.
CORE = """
import json, sys
from ocrd.task_sequence import ProcessorTask

def read(text):
    try:
        tasks = [ProcessorTask.parse(line) for line in text.splitlines() if line.strip()]
    except Exception as error:
        return type(error).__name__
    return [[t.executable, t.input_file_grps, t.output_file_grps, t.parameters] for t in tasks]

print(json.dumps([read(text) for text in json.load(sys.stdin)]))
"""

TAKEN = [
    "dummy -I OCR-D-IMG -O OCR-D-COPY",
    "dummy -I OCR-D-IMG",
    "\n\n  dummy -I A -O B  \r\n\t\r\ndummy -I B -O C\n\n",
    "dummy -I A,B -I C -O D -O E,F",
    "dummy -I A -I A -O B",
    "dummy -O B -I A",
    "tesserocr-recognize -I A -O B -P model deu -P dpi 300 -P overlay false -P x null",
    "dummy -I A -O B -P a 01 -P b 1e3 -P c '\"x\"' -P d '[1, {\"e\": 2}]' -P f '{' -P g ''",
    "dummy -I A -O B -P a 1 -P a 2",
    """dummy -I A -O B -p '{"a": 1, "b": [1, 2]}' -p '{"a": 2}'""",
    """dummy -I A -O B -p '{"a": {"x": 1}}' -p '{"a": {"y": 2}}' -P b 3""",
    """dummy -I A -O B -P b 3 -p '{"b": 4}'""",
    """dummy -I A -O B -p '' -p '  ' -p {}""",
    """dummy -I A -O B -p " {\\"a\\": \\"it's\\"} " """,
    """dummy -I A -O B -p '\u00a0{"a": "\u00fc"}\u00a0'""",
    """dummy -I A -O B -P path 'C:\\dir' -P other C:\\\\dir -P quoted "a\\"b\\c" """,
    "dummy -I A -O B -P key -I",
    "dummy -I A -O B -P -p -O",
    "'dummy' \"-I\" A''B -O \\B",
    "dummy -I A -O B -P text a#b -P more '#'",
    "dummy -I A -O B\x0bdummy -I B -O C\u2028dummy -I C -O D\x85",
]

REFUSED = [
    ("dummy -I A -O B\ndummy -g PHYS_1 -I A", 2, 7),
    ("dummy --input-file-grp A", 1, 7),
    ("dummy -I A --overwrite", 1, 12),
    ("dummy -I A -O B extra", 1, 17),
    ("dummy -I A -O B # comment", 1, 17),
    ("dummy -I A -IA", 1, 12),
    ("# comment", 1, 1),
    ("dummy -I A -O B 'x", 1, 17),
    ('dummy -I A -P k "x\\"', 1, 17),
    ("dummy -I A\\", 1, 11),
    ("dummy -I A -p '{\"a\": x}'", 1, 22),
    ("dummy -I A -p '{\"a\": '", 1, 21),
    ('dummy -I A -p {\\"a\\":x}', 1, 22),
    ("dummy -I A -p '[1]'", 1, 15),
    ("dummy -I A -p '# c'", 1, 15),
    ("dummy -I A -P key", 1, 12),
    ("dummy -I", 1, 7),
    ("dummy -I A -p", 1, 12),
]

#: What OCR-D's parser accepts and this project refuses.
STRICTER = [
    ("dummy", 1, 6),
    ("dummy -O B  ", 1, 11),
    ("dummy -I ''", 1, 10),
    ("dummy -I A,", 1, 11),
    ("dummy -I A,/tmp/x", 1, 12),
    ("dummy -I 'A,B' -O 'C','../x'", 1, 24),
    ("dummy -I A -O 'a b'", 1, 16),
    ("dummy -I A -O \u00c4", 1, 15),
    ("../dummy -I A", 1, 1),
    ("'' -I A", 1, 1),
    ("Dummy -I A", 1, 1),
    ("ocrd- -I A", 1, 1),
    ("}", 1, 1),
    ("dummy -I A -p '{\"a\": NaN}'", 1, 15),
    ("dummy -I A -p /etc/hostname", 1, 15),
]


@pytest.fixture(scope="module")
def core(ocrd_bin: Path) -> dict[str, Any]:
    """Returns what OCR-D's own parser returns for each of the texts, in one process."""
    texts = TAKEN + [text for text, _, _ in REFUSED + STRICTER[:-1]]
    found = subprocess.run(
        [ocrd_bin / "python", "-c", CORE],
        input=json.dumps(texts).encode(),
        capture_output=True,
        check=True,
    )
    return dict(zip(texts, json.loads(found.stdout), strict=True))


def _plain(step: Step) -> list[Any]:
    groups = list(step.input_file_grps), list(step.output_file_grps)
    return [step.processor, *groups, step.parameters]


def _fault(text: str) -> tuple[int, int]:
    with pytest.raises(ocrd_errors.WorkflowInvalid) as refused:
        workflow_text.parse(text)
    line, column = refused.value.extra["line"], refused.value.extra["column"]
    assert refused.value.detail.startswith(f"line {line}, column {column}: ")
    return line, column


@pytest.mark.parametrize("text", TAKEN, ids=range(len(TAKEN)))
def test_a_workflow_is_parsed_like_core_parses_it(core: dict[str, Any], text: str) -> None:
    assert [_plain(step) for step in workflow_text.parse(text)] == core[text]


@pytest.mark.parametrize(("text", "line", "column"), REFUSED, ids=range(len(REFUSED)))
def test_what_core_refuses_is_refused_with_the_position(
    core: dict[str, Any], text: str, line: int, column: int
) -> None:
    assert isinstance(core[text], str)
    assert _fault(text) == (line, column)


@pytest.mark.parametrize(("text", "line", "column"), STRICTER, ids=range(len(STRICTER)))
def test_unsafe_workflows_are_refused_with_the_position(text: str, line: int, column: int) -> None:
    assert _fault(text) == (line, column)


def test_core_accepts_what_only_this_project_refuses(core: dict[str, Any]) -> None:
    # If this fails, the two lists above are wrong.
    assert all(isinstance(core[text], list) for text, _, _ in STRICTER[:-1])


def test_a_step_knows_its_line() -> None:
    assert [step.line for step in workflow_text.parse("\n\na -I A\n\nb -I B")] == [3, 5]


def test_a_parameter_file_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "parameters.json"
    path.write_text('{"a": 1}')
    with pytest.raises(ocrd_errors.WorkflowInvalid, match="files are not supported"):
        workflow_text.parse(f"dummy -I A -p {path}")


@pytest.mark.parametrize("text", ["", "\n \r\n\t"], ids=["nothing", "blank lines"])
def test_an_empty_workflow_is_refused(text: str) -> None:
    with pytest.raises(ocrd_errors.WorkflowInvalid, match="empty"):
        workflow_text.parse(text)


def test_the_size_of_a_workflow_is_limited() -> None:
    line = "dummy -I A -O B"
    assert len(workflow_text.parse(f"{line}\n" * 1000)) == 1000
    assert _fault(f"{line}\n" * 1001) == (1001, 1)
    with pytest.raises(ocrd_errors.WorkflowInvalid, match="65536 bytes"):
        workflow_text.parse(line + "\n" * 65536)


def test_hostile_json_is_refused() -> None:
    assert _fault("dummy -I A -p '" + '{"a":' * 10_000 + "'")[0] == 1
    assert _fault('dummy -I A -p \'{"a": ' + "9" * 10_000 + "}'")[0] == 1
    deep = "[" * 30_000
    assert workflow_text.parse(f"dummy -I A -P a {deep}")[0].parameters == {"a": deep}


def test_numbers_that_json_does_not_have_are_text() -> None:
    assert workflow_text.parse("dummy -I A -P a NaN")[0].parameters == {"a": "NaN"}


@pytest.mark.parametrize("name", ["dummy", "ocrd-dummy"])
def test_the_name_of_a_processor_may_have_its_prefix(name: str) -> None:
    assert workflow_text.parse(f"{name} -I A")[0].processor == "ocrd-dummy"


def test_a_byte_order_mark_is_not_part_of_the_first_processor() -> None:
    assert workflow_text.parse("\ufeffdummy -I A")[0].processor == "ocrd-dummy"


CHARACTERS = st.sampled_from("ab \t'\"\\#$,-{}\u00e4\u00a0\n\r") | st.characters()


@given(st.text(CHARACTERS, max_size=30))
@settings(max_examples=500, deadline=None)
@example("'a'\"b\\\"c\\d\" \\' ''")
@example("a\\\nb '\n' \"\\\n\"")
def test_words_are_split_like_in_a_shell(line: str) -> None:
    try:
        expected = shlex.split(line)
    except ValueError:
        with pytest.raises(ValueError, match=r"quote|backslash"):
            workflow_text.split(line)
        return
    tokens = workflow_text.split(line)
    assert [token.text for token in tokens] == expected
    for token in tokens:
        # Each character is in the line of its column number.
        assert "".join(line[column - 1] for column in token.columns) == token.text


@pytest.mark.parametrize(
    ("text", "filename", "expected"),
    [
        ("dummy -I A -O B", "workflow.txt", False),
        ("dummy -I A -O B", "workflow.nf", True),
        ("dummy -I A -O B", "", False),
        ("nextflow.enable.dsl = 2\n", "", True),
        ("#!/usr/bin/env nextflow\n", "", True),
        ("// OCR-D\n\nprocess ocrd_dummy {\n}\n", "", True),
        ("\n  workflow {\n main:\n}", "upload", True),
        ("workflow-tool -I A -O B -p '{}'", "", False),
        ("process-more -I A -P x '{'", "", False),
    ],
    ids=range(9),
)
def test_a_nextflow_script_is_detected(text: str, filename: str, expected: bool) -> None:
    assert workflow_text.is_nextflow(text, filename) is expected
