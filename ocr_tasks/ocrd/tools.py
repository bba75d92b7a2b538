"""Processors of OCR-D: where they are, what they take, which of them living workers offer."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from ocr_tasks import errors, settings
from ocr_tasks.jobs import worker_registry
from ocr_tasks.ocrd import programs, redis_keys
from ocr_tasks.ocrd.model import NEXTFLOW
from ocr_tasks.redis import connection

log = logging.getLogger(__name__)

#: Seconds that a processor has to describe itself, and bytes that it may say.
DESCRIBE_SECONDS = 60.0
_MOST = 1 << 20

_NAME = re.compile(r"ocrd-[a-z0-9][a-z0-9-]{0,99}")

#: It runs any command of a client.
_NEVER = "ocrd-command"

#: Errors that a client is told of at most, and characters of each.
_ERRORS = 5
_LENGTH = 300

#: Addresses (RFC 3986), and what leads elsewhere in the file system.
_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|[/~]|(.*/)?\.\.(/|$)|.*[\\\x00-\x1f]", re.DOTALL)


# Those of this machine


def find(name: str) -> Path | None:
    """The program of a processor: in a folder of OCR_OCRD_PATH, then of PATH.

    None if there is no such processor, or none that may be offered.
    """
    if not _NAME.fullmatch(name):
        return None
    folders = [*settings.get().ocrd_path.split(":"), *os.environ.get("PATH", "").split(":")]
    for folder in folders:
        path = Path(folder, name)
        if path.is_absolute() and os.access(path, os.X_OK) and path.is_file():
            return None if _runs_anything(path) else path
    return None


def _runs_anything(path: Path) -> bool:
    """Whether this is the processor that is never offered, by whatever name."""
    if _NEVER in (path.name, path.resolve().name):
        return True
    for folder in {path.parent, path.resolve().parent}:
        with suppress(OSError):
            if path.samefile(folder / _NEVER):
                return True
    return False


def describe(path: Path) -> dict[str, Any]:
    """What a processor says about itself (its part of ocrd-tool.json); asked once per version."""
    return _describe(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1024)
def _describe(path: Path, _version: int) -> dict[str, Any]:
    name = path.name
    said = _said([str(path), "--dump-json"], programs.environment())
    try:
        tool = json.loads(said)
    except (ValueError, RecursionError):
        raise errors.ProcessorUnavailable(f"{name} prints no tool description.") from None
    wrong = _wrong(name, tool)
    if wrong:
        raise errors.ProcessorUnavailable(f"The tool description of {name} is invalid: {wrong}.")
    described: dict[str, Any] = tool
    return described


def _said(command: list[str], environment: dict[str, str]) -> bytes:
    """What a program prints; it is killed, with all that it has started, if it takes too long."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=environment["HOME"],
            start_new_session=True,
        )
    except OSError as error:
        raise errors.ProcessorUnavailable(f"{command[0]} cannot be started: {error}.") from error

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(DESCRIBE_SECONDS, kill)
    timer.start()
    with process:
        try:
            assert process.stdout  # noqa: S101  # for mypy
            return process.stdout.read(_MOST)
        finally:
            timer.cancel()
            kill()


def _wrong(name: str, tool: Any) -> str:
    """What is wrong with the description of a processor, '' if nothing is."""
    if not isinstance(tool, dict) or tool.get("executable") != name:
        return "it is not that of this program"
    for part in ("steps", "categories", "resource_locations", "resources"):
        if not isinstance(tool.get(part, []), list):
            return f"{part} is no list"
    for part in ("input_file_grp_cardinality", "output_file_grp_cardinality"):
        if not _is_cardinality(tool.get(part, 1)):
            return f"{part} is neither a number nor two"
    parameters = tool.get("parameters", {})
    if not isinstance(parameters, dict):
        return "parameters is no object"
    if not all(isinstance(parameter, dict) for parameter in parameters.values()):
        return "a parameter is no object"
    return _wrong_schema(_schema(tool))


def _wrong_schema(schema: dict[str, Any]) -> str:
    # Only now: it takes a twentieth of the time in which a server starts.
    from jsonschema import Draft201909Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft201909Validator.check_schema(schema)
    except SchemaError as error:
        return f"parameters: {error.message[:_LENGTH]}"
    return ""


def _is_cardinality(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) == 2 and all(isinstance(number, int) for number in value)
    return isinstance(value, int)


def offer(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The descriptions of those of the processors that can be run here, by name.

    The others are named in the log.
    """
    offered = {}
    for name in names:
        path = find(name)
        if path is None:
            log.warning("%s is not offered: there is no such processor here", name)
            continue
        try:
            offered[name] = describe(path)
        except errors.ProcessorUnavailable as error:
            log.warning("%s is not offered: %s", name, error.detail)
    return offered


# Those of all workers


def announce(tools: dict[str, dict[str, Any]]) -> None:
    """Says that a living worker offers these processors; to be said again in `workers.LIFETIME`."""
    with connection.client().pipeline(transaction=False) as pipe:
        for name, tool in tools.items():
            pipe.set(redis_keys.processor(name), json.dumps(tool), ex=worker_registry.LIFETIME)
        pipe.execute()


def offered() -> list[str]:
    """The names of the processors that living workers offer, sorted."""
    with connection.translated_errors():
        found = connection.client().scan_iter(redis_keys.processor("*"), count=1000)
        names = {key.removeprefix(redis_keys.PROCESSOR_PREFIX) for key in found}
        return sorted(name for name in names if _NAME.fullmatch(name))


def has(name: str) -> bool:
    """Whether a living worker offers it."""
    with suppress(errors.ProcessorNotFound):
        return bool(tool(name))
    return False


def tool(name: str) -> dict[str, Any]:
    """The description of a processor that a living worker offers."""
    with connection.translated_errors():
        known = _NAME.fullmatch(name) or name == NEXTFLOW
        text = connection.client().get(redis_keys.processor(name)) if known else None
    if text is None:
        raise errors.ProcessorNotFound(f"No worker offers {name[:_LENGTH]!r}.")
    found: dict[str, Any] = json.loads(str(text))
    return found


# What they take


def check_parameters(tool: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters for a run, with the defaults of those that are not given.

    A parameter that stands for a file is the name of one that the operator has installed: a client
    must not have the server read other files, or fetch any.
    """
    described = tool.get("parameters", {})
    for name, value in parameters.items():
        if _is_file(described.get(name, {})) and any(map(_ELSEWHERE.match, _texts(value))):
            raise errors.ParametersInvalid(f"{name}: give the name of an installed resource only.")
    wrong = _wrong_parameters(_schema(tool), parameters)
    if wrong:
        raise errors.ParametersInvalid("; ".join(wrong[:_ERRORS]) + ".")
    defaults = {
        name: parameter["default"]
        for name, parameter in described.items()
        if "default" in parameter
    }
    return defaults | parameters


def _wrong_parameters(schema: dict[str, Any], parameters: dict[str, Any]) -> list[str]:
    from jsonschema import Draft201909Validator
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    # A registry that fetches nothing: the one that is used by default does.
    validator = Draft201909Validator(schema, registry=Registry())
    try:
        return [_in_words(error) for error in validator.iter_errors(parameters)]
    except (Unresolvable, RecursionError, re.error):
        raise errors.ParametersInvalid(
            "The tool description of the processor has invalid parameters."
        ) from None


def _schema(tool: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of a processor's parameters, which says in each whether it is required."""
    described = tool.get("parameters", {})
    return {
        "type": "object",
        "properties": {name: _plain(parameter) for name, parameter in described.items()},
        "required": [name for name, parameter in described.items() if parameter.get("required")],
        "additionalProperties": False,
    }


def _plain(schema: Any) -> Any:
    """A schema without `required: true`, which is OCR-D's way and not that of JSON schema."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _plain(value)
        for key, value in schema.items()
        if not (key == "required" and isinstance(value, bool))
    }


def _is_file(parameter: dict[str, Any]) -> bool:
    return "content-type" in parameter or parameter.get("format") in ("uri", "url", "file", "path")


def _texts(value: Any) -> Iterator[str]:
    """All texts in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _in_words(error: Any) -> str:
    place = ".".join(str(part) for part in error.absolute_path)
    return f"{place}: {error.message}"[:_LENGTH] if place else str(error.message)[:_LENGTH]


def check_groups(tool: dict[str, Any], inputs: Iterable[str], outputs: Iterable[str]) -> None:
    """Makes sure that a processor takes so many groups of files."""
    for kind, groups in (("input", list(inputs)), ("output", list(outputs))):
        least, most = _bounds(tool.get(f"{kind}_file_grp_cardinality", 1))
        if len(groups) < least or 0 < most < len(groups):
            wanted = (
                str(least)
                if least == most
                else f"{least} or more"
                if most <= 0
                else f"{least} to {most}"
            )
            raise errors.ProcessingInvalid(
                f"{tool['executable']} takes {wanted} {kind} file groups, not {len(groups)}."
            )


def _bounds(cardinality: int | list[int]) -> tuple[int, int]:
    """The least and the most groups; OCR-D takes any number where that is not above 0."""
    least, most = cardinality if isinstance(cardinality, list) else (cardinality, cardinality)
    return max(0, least), most
