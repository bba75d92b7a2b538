"""The text of a workflow, as `ocrd process` takes it: one processor a line.

    tesserocr-segment   -I OCR-D-IMG -O OCR-D-SEG -P find_tables false
    tesserocr-recognize -I OCR-D-SEG -O OCR-D-OCR -p '{"model": "deu"}'

A line is split as a POSIX shell would split it, without comments and without continuation. Nothing
is read from the disk: parameters are written in the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ocr_tasks import errors
from ocr_tasks.ocrd.mets.mets import is_group_name
from ocr_tasks.ocrd.model import Step

MAX_BYTES = 64 * 1024
MAX_STEPS = 1000

_PROCESSOR = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
_NEXTFLOW = re.compile(
    r"^[ \t]*(#!.*\bnextflow\b|nextflow\.(enable|preview)\.|(process|workflow)(\s+\w+)?\s*\{)",
    re.MULTILINE,
)

# What parts words and quotes them in a POSIX shell, as `shlex` has it.
_SPACE = " \t\r\n"
_QUOTES = "'\""
_ESCAPE = "\\"


@dataclass(slots=True)
class Token:
    """A word of a line. `columns` are those of its characters, `column` where it begins, from 1."""

    column: int
    text: str = ""
    columns: list[int] = field(default_factory=list)

    def add(self, character: str, column: int) -> None:
        self.text += character
        self.columns.append(column)

    def at(self, position: int) -> int:
        """The column of a character of the text, or of its last one."""
        return self.columns[min(position, len(self.columns) - 1)] if self.columns else self.column


class _Fault(ValueError):
    """What is wrong with a line, and in which column."""

    def __init__(self, column: int, detail: str) -> None:
        super().__init__(column, detail)
        self.column = column
        self.detail = detail


def parse(text: str) -> list[Step]:
    """The steps of a workflow."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise errors.WorkflowInvalid(
            f"The workflow is larger than {MAX_BYTES} bytes", limit=MAX_BYTES
        )
    steps: list[Step] = []
    # Some editors begin every file with a byte order mark, and show none.
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            steps.append(_step(number, line))
        except _Fault as fault:
            _refuse(number, fault)
        if len(steps) > MAX_STEPS:
            _refuse(number, _Fault(1, f"a workflow may have {MAX_STEPS} steps"))
    if not steps:
        raise errors.WorkflowInvalid("The workflow is empty")
    return steps


def is_nextflow(text: str, filename: str = "") -> bool:
    """Whether a workflow is a script for Nextflow, by its file's name or what plainly is one."""
    return filename.lower().endswith(".nf") or _NEXTFLOW.search(text) is not None


def split(line: str) -> list[Token]:
    """The words of a line: the same that `shlex.split` finds, and where they stand."""
    words: list[Token] = []
    position = 0
    while position < len(line):
        if line[position] in _SPACE:
            position += 1
            continue
        word = Token(position + 1)
        position = _word(line, position, word)
        words.append(word)
    return words


def _word(line: str, position: int, word: Token) -> int:
    """Reads a word that begins at a position; gives the position behind it."""
    while position < len(line) and line[position] not in _SPACE:
        character = line[position]
        if character in _QUOTES:
            position = _quoted(line, position, word)
        elif character == _ESCAPE:
            position = _escaped(line, position, word)
        else:
            word.add(character, position + 1)
            position += 1
    return position


def _quoted(line: str, start: int, word: Token) -> int:
    quote = line[start]
    position = start + 1
    while position < len(line):
        character = line[position]
        if character == quote:
            return position + 1
        # Between double quotes a backslash is one unless it stands before a quote or another.
        if quote == '"' and line[position : position + 2] in ('\\"', "\\\\"):
            position += 1
        word.add(line[position], position + 1)
        position += 1
    raise _Fault(start + 1, "this quote is not closed")


def _escaped(line: str, position: int, word: Token) -> int:
    if position + 1 == len(line):
        raise _Fault(position + 1, "nothing stands behind this backslash")
    word.add(line[position + 1], position + 2)
    return position + 2


def _refuse(line: int, fault: _Fault) -> NoReturn:
    raise errors.WorkflowInvalid(
        f"line {line}, column {fault.column}: {fault.detail}", line=line, column=fault.column
    ) from None


@dataclass(slots=True)
class _Parts:
    """What the options of a line come to."""

    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)


def _step(number: int, line: str) -> Step:
    tool, *rest = split(line)
    if tool.text.startswith("#"):
        raise _Fault(tool.column, "a workflow has no comments")
    if not _PROCESSOR.fullmatch(tool.text):
        raise _Fault(tool.column, f"{_shown(tool.text)} is no processor's name without its ocrd-")
    parts = _Parts()
    words = iter(rest)
    for option in words:
        take = _OPTIONS.get(option.text)
        if take is None:
            raise _Fault(
                option.column, f"{_shown(option.text)} is none of the options -I, -O, -p and -P"
            )
        take(parts, option, words)
    if not parts.inputs:
        raise _Fault(len(line.rstrip()) + 1, "the option -I with an input file group is missing")
    return Step(
        line=number,
        processor=f"ocrd-{tool.text}",
        input_file_grps=tuple(parts.inputs),
        output_file_grps=tuple(parts.outputs),
        parameters=parts.parameters,
    )


def _inputs(parts: _Parts, option: Token, words: Iterator[Token]) -> None:
    parts.inputs += _groups(_value(option, words))


def _outputs(parts: _Parts, option: Token, words: Iterator[Token]) -> None:
    parts.outputs += _groups(_value(option, words))


def _parameters(parts: _Parts, option: Token, words: Iterator[Token]) -> None:
    value = _value(option, words)
    text = value.text.lstrip()
    if text and text[0] != "{":
        raise _Fault(
            value.column, '-p takes a JSON object such as \'{"model": "deu"}\'; no file is read'
        )
    parts.parameters |= _object(value) if text else {}


def _parameter(parts: _Parts, option: Token, words: Iterator[Token]) -> None:
    key = _value(option, words, "a name and a value")
    value = _value(option, words, "a name and a value")
    try:
        parts.parameters[key.text] = _json(value.text)
    except (ValueError, RecursionError):
        parts.parameters[key.text] = value.text


_OPTIONS: dict[str, Callable[[_Parts, Token, Iterator[Token]], None]] = {
    "-I": _inputs,
    "-O": _outputs,
    "-p": _parameters,
    "-P": _parameter,
}


def _value(option: Token, words: Iterator[Token], what: str = "a value") -> Token:
    for word in words:
        return word
    raise _Fault(option.column, f"{option.text} needs {what}")


def _groups(names: Token) -> list[str]:
    groups = names.text.split(",")
    position = 0
    for group in groups:
        if not is_group_name(group):
            raise _Fault(names.at(position), f"{_shown(group)} is no file group's name")
        position += len(group) + 1
    return groups


def _object(value: Token) -> dict[str, Any]:
    text = value.text.strip()
    try:
        found = _json(text)
    except json.JSONDecodeError as error:
        position = error.pos + value.text.index(text)
        raise _Fault(value.at(position), f"the JSON is wrong here: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise _Fault(value.column, f"the JSON cannot be taken: {error}") from None
    assert isinstance(found, dict)  # noqa: S101  # JSON that begins with a brace is an object
    return found


def _json(text: str) -> Any:
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> NoReturn:
    # Python reads NaN and Infinity, which are not JSON and which no schema can check.
    raise ValueError(f"{name} is no number of JSON")


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 40 else f"{text[:40]!r}…"
