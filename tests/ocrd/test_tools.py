"""Finding, describing and announcing processors, and checking their parameters."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import programs, redis_keys, tools

Maker = Callable[[str, str], Path]

TOOL: dict[str, Any] = {
    "executable": "ocrd-made-up",
    "description": "Made up",
    "steps": ["recognition/text-recognition"],
    "categories": ["Text recognition and optimization"],
    "input_file_grp_cardinality": [1, 2],
    "output_file_grp_cardinality": 1,
    "parameters": {
        "model": {"type": "string", "content-type": "text/directory", "required": True},
        "models": {"type": "array", "items": {"type": "string"}, "format": "uri"},
        "dpi": {"type": "number", "default": 300, "minimum": 0},
        "level": {"type": "string", "enum": ["page", "line"], "default": "page"},
        "xpath": {"type": "string"},
        "more": {"type": "object", "properties": {"a": {"type": "boolean", "required": True}}},
    },
}


def speaker(tool: Any) -> str:
    """Creates a processor that describes itself with this text."""
    return f"#!/bin/sh\ncat <<'END'\n{json.dumps(tool)}\nEND\n"


# Finding


def test_an_installed_processor_is_found(processors: redis.Redis, ocrd_bin: Path) -> None:
    assert tools.find("ocrd-dummy") == ocrd_bin / "ocrd-dummy"
    assert tools.find("ocrd-nowhere") is None


@pytest.mark.parametrize("name", ["ocrd", "sh", "ocrd-", "../bin/ocrd-x", "ocrd-X", "ocrd-x\n"])
def test_programs_with_other_names_are_not_found(
    name: str, processors: redis.Redis, own_bin: Path, program: Maker
) -> None:
    for made in ("ocrd-x", "ocrd-X", "ocrd"):
        program(made, "#!/bin/sh\n")
    assert tools.find(name) is None


def test_a_file_that_is_not_executable_is_not_a_processor(
    processors: redis.Redis, program: Maker
) -> None:
    program("ocrd-made-up", "#!/bin/sh\n").chmod(0o644)

    assert tools.find("ocrd-made-up") is None


def test_the_processor_that_runs_any_command_is_never_found(
    processors: redis.Redis, ocrd_bin: Path, own_bin: Path, program: Maker
) -> None:
    (own_bin / "ocrd-innocent").symlink_to(ocrd_bin / "ocrd-command")
    (own_bin / "ocrd-more-innocent").symlink_to(own_bin / "ocrd-innocent")
    original = program("ocrd-command", "#!/bin/sh\n")
    (own_bin / "ocrd-hard").hardlink_to(original)

    for name in ("ocrd-command", "ocrd-innocent", "ocrd-more-innocent", "ocrd-hard"):
        assert tools.find(name) is None


def test_a_copy_of_the_processor_that_runs_any_command_is_not_offered(
    processors: redis.Redis, ocrd_bin: Path, program: Maker
) -> None:
    program("ocrd-copied", (ocrd_bin / "ocrd-command").read_text())

    assert tools.offer(["ocrd-copied"]) == {}


# Describing


def test_a_real_processor_is_asked_once_for_its_description(
    processors: redis.Redis, ocrd_bin: Path
) -> None:
    described = tools.describe(ocrd_bin / "ocrd-dummy")

    assert described["executable"] == "ocrd-dummy"
    assert described["parameters"]["copy_files"]["type"] == "boolean"
    assert tools.describe(ocrd_bin / "ocrd-dummy") is described


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        {**TOOL, "executable": "ocrd-other"},
        {**TOOL, "steps": "recognition"},
        {**TOOL, "parameters": []},
        {**TOOL, "parameters": {"x": "a number"}},
        {**TOOL, "parameters": {"x": {"type": "nothing that there is"}}},
        {**TOOL, "input_file_grp_cardinality": "one"},
        {**TOOL, "output_file_grp_cardinality": [1, 2, 3]},
    ],
    ids=range(8),
)
def test_a_processor_with_an_invalid_description_is_not_offered(
    wrong: Any, processors: redis.Redis, program: Maker
) -> None:
    path = program("ocrd-made-up", speaker(wrong))

    assert tools.offer(["ocrd-made-up"]) == {}
    with pytest.raises(ocrd_errors.ProcessorUnavailable):
        tools.describe(path)


def test_broken_processors_are_omitted(processors: redis.Redis, program: Maker) -> None:
    program("ocrd-made-up", speaker(TOOL))
    program("ocrd-silent", "#!/bin/sh\nexit 1\n")
    program("ocrd-deep", "#!/bin/sh\nhead -c 900000 /dev/zero | tr '\\0' '['\n")
    program("ocrd-lost", "#!/nowhere/python\n")

    offered = tools.offer(["ocrd-silent", "ocrd-made-up", "ocrd-deep", "ocrd-lost", "ocrd-none"])

    assert offered == {"ocrd-made-up": TOOL}


def test_a_processor_that_prints_too_much_or_hangs_is_killed(
    processors: redis.Redis, program: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = program("ocrd-endless", "#!/bin/sh\ncat /dev/zero\n")
    with pytest.raises(ocrd_errors.ProcessorUnavailable):
        tools.describe(endless)

    # The child keeps the pipe open and must be killed as well.
    hanging = program("ocrd-hanging", "#!/bin/sh\nsleep 600 &\nsleep 600\n")
    monkeypatch.setattr(tools, "DESCRIBE_SECONDS", 0.1)
    with pytest.raises(ocrd_errors.ProcessorUnavailable):
        tools.describe(hanging)


def test_a_processor_gets_no_secrets(
    processors: redis.Redis, program: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_TOKEN", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("OCRD_NETWORK_SERVER_ADDR_PROCESSING", "http://me:secret@host")
    monkeypatch.setenv("OCRD_MAX_MISSING_OUTPUTS", "0.5")
    told = programs.environment()

    assert "secret" not in str(told)
    assert told["OCRD_MAX_MISSING_OUTPUTS"] == "0.5"
    assert told["OCRD_DOWNLOAD_INPUT"] == "false"
    assert Path(told["HOME"]).stat().st_mode & 0o777 == 0o700


# Announcing


def test_announced_processors_are_offered_until_their_workers_are_gone(
    processors: redis.Redis,
) -> None:
    assert tools.offered() == []
    tools.announce({"ocrd-made-up": TOOL, "ocrd-dummy": {**TOOL, "executable": "ocrd-dummy"}})

    assert tools.offered() == ["ocrd-dummy", "ocrd-made-up"]
    assert 0 < processors.ttl(redis_keys.processor("ocrd-made-up")) <= 15
    assert tools.is_offered("ocrd-made-up")
    processors.delete(redis_keys.processor("ocrd-made-up"))
    assert tools.offered() == ["ocrd-dummy"]
    assert not tools.is_offered("ocrd-made-up")


def test_a_processor_is_known_for_an_hour_after_its_last_worker(processors: redis.Redis) -> None:
    tools.announce({"ocrd-made-up": TOOL})
    processors.delete(redis_keys.processor("ocrd-made-up"))

    assert tools.tool("ocrd-made-up") == TOOL
    assert 3500 < processors.ttl(redis_keys.known_processor("ocrd-made-up")) <= 3600
    processors.delete(redis_keys.known_processor("ocrd-made-up"))
    assert not tools.is_known("ocrd-made-up")
    with pytest.raises(ocrd_errors.ProcessorNotFound):
        tools.tool("ocrd-made-up")


def test_a_processor_of_a_worker_of_an_earlier_version_is_known(processors: redis.Redis) -> None:
    tools.announce({"ocrd-made-up": TOOL})
    processors.delete(redis_keys.known_processor("ocrd-made-up"))

    assert tools.tool("ocrd-made-up") == TOOL


# Parameters


def test_defaults_are_added() -> None:
    given = {"model": "deu+eng", "xpath": "//pc:TextLine", "dpi": 70.5}

    assert tools.check_parameters(TOOL, given) == {**given, "level": "page"}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"model": 1},
        {"model": "deu", "dpi": "300"},
        {"model": "deu", "dpi": -1},
        {"model": "deu", "level": "word"},
        {"model": "deu", "unknown": 1},
        {"model": "deu", "more": {"a": 1}},
    ],
    ids=str,
)
def test_invalid_parameters_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ocrd_errors.ParametersInvalid):
        tools.check_parameters(TOOL, given)


@pytest.mark.parametrize(
    "elsewhere",
    [
        "/etc/passwd",
        "http://host/model",
        "HTTPS://host/model",
        "file:/etc/passwd",
        "../secret",
        "models/../../secret",
        "..",
        "~/model",
        "~root",
        "a\\..\\b",
        "a\nb",
    ],
)
def test_a_client_cannot_make_the_server_open_or_download_other_files(elsewhere: str) -> None:
    for given in ({"model": elsewhere}, {"model": "deu", "models": ["deu", elsewhere]}):
        with pytest.raises(ocrd_errors.ParametersInvalid, match="installed resource"):
            tools.check_parameters(TOOL, given)


@pytest.mark.parametrize("name", ["", "deu", "Fraktur_GT4HistOCR", "a/b.ckpt", "..a", "qurator 1"])
def test_names_of_resources_are_accepted(name: str) -> None:
    assert tools.check_parameters(TOOL, {"model": name})["model"] == name


def test_a_description_cannot_make_the_server_download_anything() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/schema"
        tool = {**TOOL, "parameters": {"x": {"$ref": address}}}
        with pytest.raises(ocrd_errors.ParametersInvalid):
            tools.check_parameters(tool, {"x": 1})
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_circular_description_is_refused() -> None:
    tool = {**TOOL, "parameters": {"x": {"$ref": "#/properties/x"}}}

    with pytest.raises(ocrd_errors.ParametersInvalid):
        tools.check_parameters(tool, {"x": 1})


def test_an_error_message_is_short() -> None:
    with pytest.raises(ocrd_errors.ParametersInvalid) as refused:
        tools.check_parameters(TOOL, {str(number): "x" * 10000 for number in range(1000)})
    assert len(refused.value.detail) < 2000


# File groups


@pytest.mark.parametrize(
    ("cardinality", "fitting", "others"),
    [
        (1, {1}, {0, 2}),
        (2, {2}, {1, 3}),
        (-1, {0, 1, 9}, set()),
        ([1, 2], {1, 2}, {0, 3}),
        ([2, -1], {2, 9}, {0, 1}),
        ([0, 1], {0, 1}, {2}),
    ],
    ids=str,
)
def test_a_processor_accepts_its_number_of_groups(
    cardinality: Any, fitting: set[int], others: set[int]
) -> None:
    tool = {**TOOL, "input_file_grp_cardinality": cardinality}
    for number in fitting:
        tools.check_groups(tool, ["A"] * number, ["B"])
    for number in others:
        with pytest.raises(ocrd_errors.ProcessingInvalid, match="input file groups"):
            tools.check_groups(tool, ["A"] * number, ["B"])
    with pytest.raises(ocrd_errors.ProcessingInvalid, match="takes 1 output"):
        tools.check_groups(TOOL, ["A"], [])
