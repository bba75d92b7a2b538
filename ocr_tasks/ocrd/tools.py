"""OCR-D's processors: installed programs, their parameters, and what running workers offer."""

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

from ocr_tasks.jobs import worker_registry
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import programs, redis_keys
from ocr_tasks.ocrd import settings as ocrd_settings
from ocr_tasks.ocrd.model import NEXTFLOW
from ocr_tasks.redis import connection

log = logging.getLogger(__name__)

#: Seconds that a processor may take to print its description, and maximum bytes of that.
DESCRIBE_SECONDS = 60.0
_MAX_BYTES = 1 << 20

_NAME = re.compile(r"ocrd-[a-z0-9][a-z0-9-]{0,99}")

#: A processor that runs any command given by the client.
_DENIED = "ocrd-command"

#: Seconds after which a processor is unknown that no running worker offers.
KNOWN_SECONDS = 3600

#: Maximum number of errors in a response, and maximum characters of each.
_MAX_ERRORS = 5
_LENGTH = 300

#: URLs (RFC 3986), and paths that leave the folder.
_PATH_OR_URL = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*:|[/~]|(.*/)?\.\.(/|$)|.*[\\\x00-\x1f]", re.DOTALL
)


# Processors on this host


def find(name: str) -> Path | None:
    """Returns the program of a processor, in a folder of OCR_OCRD_PATH or PATH.

    Returns None if it is not installed or may not be offered.
    """
    if not _NAME.fullmatch(name):
        return None
    folders = [*ocrd_settings.get().ocrd_path.split(":"), *os.environ.get("PATH", "").split(":")]
    for folder in folders:
        path = Path(folder, name)
        if path.is_absolute() and os.access(path, os.X_OK) and path.is_file():
            return None if _is_denied(path) else path
    return None


def _is_denied(path: Path) -> bool:
    """Returns whether this is a processor that is never offered, under any name."""
    if _DENIED in (path.name, path.resolve().name):
        return True
    for folder in {path.parent, path.resolve().parent}:
        with suppress(OSError):
            if path.samefile(folder / _DENIED):
                return True
    return False


def describe(path: Path) -> dict[str, Any]:
    """Returns a processor's own description (ocrd-tool.json), cached per modification time."""
    return _describe(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1024)
def _describe(path: Path, _version: int) -> dict[str, Any]:
    name = path.name
    output = _output_of([str(path), "--dump-json"], programs.environment())
    try:
        tool = json.loads(output)
    except (ValueError, RecursionError):
        raise ocrd_errors.ProcessorUnavailable(f"{name} prints no tool description.") from None
    wrong = _description_error(name, tool)
    if wrong:
        raise ocrd_errors.ProcessorUnavailable(
            f"The tool description of {name} is invalid: {wrong}."
        )
    described: dict[str, Any] = tool
    return described


def _output_of(command: list[str], environment: dict[str, str]) -> bytes:
    """Returns what a program prints; kills it and its children after DESCRIBE_SECONDS."""
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
        raise ocrd_errors.ProcessorUnavailable(
            f"{command[0]} cannot be started: {error}."
        ) from error

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(DESCRIBE_SECONDS, kill)
    timer.start()
    with process:
        try:
            assert process.stdout  # noqa: S101  # for mypy
            return process.stdout.read(_MAX_BYTES)
        finally:
            timer.cancel()
            kill()


def _description_error(name: str, tool: Any) -> str:
    """Returns what is wrong with the description of a processor, or ''."""
    if not isinstance(tool, dict) or tool.get("executable") != name:
        return "it is not the description of this program"
    for part in ("steps", "categories", "resource_locations", "resources"):
        if not isinstance(tool.get(part, []), list):
            return f"{part} is not a list"
    for part in ("input_file_grp_cardinality", "output_file_grp_cardinality"):
        if not _is_cardinality(tool.get(part, 1)):
            return f"{part} is not one or two integers"
    parameters = tool.get("parameters", {})
    if not isinstance(parameters, dict):
        return "parameters is not an object"
    if not all(isinstance(parameter, dict) for parameter in parameters.values()):
        return "a parameter is not an object"
    return _schema_error(_schema(tool))


def _schema_error(schema: dict[str, Any]) -> str:
    # Imported here because it takes 5 % of a server's startup time.
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
    """Returns the descriptions of the processors that can run on this host, by name.

    Logs a warning for each of the others.
    """
    offered = {}
    for name in names:
        path = find(name)
        if path is None:
            log.warning("%s is not offered: it is not installed", name)
            continue
        try:
            offered[name] = describe(path)
        except ocrd_errors.ProcessorUnavailable as error:
            log.warning("%s is not offered: %s", name, error.detail)
    return offered


# Processors of all workers


def announce(tools: dict[str, dict[str, Any]]) -> None:
    """Stores the descriptions of the processors that this worker offers, for all servers.

    The processors are offered for `worker_registry.LIFETIME` seconds, and known for KNOWN_SECONDS.
    """
    with connection.client().pipeline(transaction=False) as pipe:
        for name, tool in tools.items():
            text = json.dumps(tool)
            pipe.set(redis_keys.processor(name), text, ex=worker_registry.LIFETIME)
            pipe.set(redis_keys.known_processor(name), text, ex=KNOWN_SECONDS)
        pipe.execute()


def offered() -> list[str]:
    """Returns the names of the processors that running workers offer, sorted."""
    with connection.translated_errors():
        found = connection.client().scan_iter(redis_keys.processor("*"), count=1000)
        names = {key.removeprefix(redis_keys.PROCESSOR_PREFIX) for key in found}
        return sorted(name for name in names if _NAME.fullmatch(name))


def is_offered(name: str) -> bool:
    """Returns whether a running worker offers a processor."""
    with connection.translated_errors():
        return bool(connection.client().exists(redis_keys.processor(name)))


def is_known(name: str) -> bool:
    """Returns whether a worker offers a processor, or has offered it within KNOWN_SECONDS."""
    with suppress(ocrd_errors.ProcessorNotFound):
        return bool(tool(name))
    return False


def tool(name: str) -> dict[str, Any]:
    """Returns the description of a processor that `is_known`; raises ProcessorNotFound."""
    text = None
    if _NAME.fullmatch(name) or name == NEXTFLOW:
        # Workers of earlier versions write only the first.
        names = [redis_keys.processor(name), redis_keys.known_processor(name)]
        with connection.translated_errors():
            text = next(filter(None, connection.client().mget(names)), None)
    if text is None:
        raise ocrd_errors.ProcessorNotFound(f"No worker offers {name[:_LENGTH]!r}.")
    found: dict[str, Any] = json.loads(str(text))
    return found


# Parameters and file groups


def check_parameters(tool: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """Returns the parameters of a run, with defaults added. Raises ocrd_errors.ParametersInvalid.

    The value of a parameter that denotes a file must be the name of an installed resource: a client
    must not make the server read or fetch other files.
    """
    described = tool.get("parameters", {})
    for name, value in parameters.items():
        if _is_file(described.get(name, {})) and any(map(_PATH_OR_URL.match, _strings(value))):
            raise ocrd_errors.ParametersInvalid(
                f"{name}: give the name of an installed resource only."
            )
    wrong = _parameter_errors(_schema(tool), parameters)
    if wrong:
        raise ocrd_errors.ParametersInvalid("; ".join(wrong[:_MAX_ERRORS]) + ".")
    defaults = {
        name: parameter["default"]
        for name, parameter in described.items()
        if "default" in parameter
    }
    return defaults | parameters


def _parameter_errors(schema: dict[str, Any], parameters: dict[str, Any]) -> list[str]:
    from jsonschema import Draft201909Validator
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    # An empty registry: the default one fetches referenced URLs.
    validator = Draft201909Validator(schema, registry=Registry())
    try:
        return [_describe_error(error) for error in validator.iter_errors(parameters)]
    except (Unresolvable, RecursionError, re.error):
        raise ocrd_errors.ParametersInvalid(
            "The tool description of the processor has invalid parameters."
        ) from None


def _schema(tool: dict[str, Any]) -> dict[str, Any]:
    """Returns the JSON schema of a processor's parameters."""
    described = tool.get("parameters", {})
    return {
        "type": "object",
        "properties": {name: _to_json_schema(parameter) for name, parameter in described.items()},
        "required": [name for name, parameter in described.items() if parameter.get("required")],
        "additionalProperties": False,
    }


def _to_json_schema(schema: Any) -> Any:
    """Removes OCR-D's boolean `required`, which is not valid JSON schema."""
    if isinstance(schema, list):
        return [_to_json_schema(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _to_json_schema(value)
        for key, value in schema.items()
        if not (key == "required" and isinstance(value, bool))
    }


def _is_file(parameter: dict[str, Any]) -> bool:
    return "content-type" in parameter or parameter.get("format") in ("uri", "url", "file", "path")


def _strings(value: Any) -> Iterator[str]:
    """Yields all strings in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from _strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)


def _describe_error(error: Any) -> str:
    place = ".".join(str(part) for part in error.absolute_path)
    return f"{place}: {error.message}"[:_LENGTH] if place else str(error.message)[:_LENGTH]


def check_groups(tool: dict[str, Any], inputs: Iterable[str], outputs: Iterable[str]) -> None:
    """Raises ocrd_errors.ProcessingInvalid if a processor does not take this number of groups."""
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
            raise ocrd_errors.ProcessingInvalid(
                f"{tool['executable']} takes {wanted} {kind} file groups, not {len(groups)}."
            )


def _bounds(cardinality: int | list[int]) -> tuple[int, int]:
    """Returns the minimum and maximum number of groups; a maximum below 1 means no limit."""
    least, most = cardinality if isinstance(cardinality, list) else (cardinality, cardinality)
    return max(0, least), most
