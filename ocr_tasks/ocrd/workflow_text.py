"""Parses workflows in the syntax of `ocrd process`: one processor per line.

    tesserocr-segment   -I OCR-D-IMG -O OCR-D-SEG -P find_tables false
    tesserocr-recognize -I OCR-D-SEG -O OCR-D-OCR -p '{"model": "deu"}'

Unlike in `ocrd process`, names of processors may begin with `ocrd-`. A line is split like in a
POSIX shell, without comments and line continuation. Parameters must be in the text; files with
parameters are not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd.mets.mets import is_group_name
from ocr_tasks.ocrd.model import Step

MAX_BYTES = 64 * 1024
MAX_STEPS = 1000

_PROCESSOR = re.compile(r"(?:ocrd-)?+([a-z0-9][a-z0-9-]{0,99})")
_NEXTFLOW = re.compile(
    r"^[ \t]*(#!.*\bnextflow\b|nextflow\.(enable|preview)\.|(process|workflow)(\s+\w+)?\s*\{)",
    re.MULTILINE,
)

# Special characters of a POSIX shell, as in `shlex`.
_WHITESPACE = " \t\r\n"
_QUOTES = "'\""
_ESCAPE = "\\"


@dataclass(slots=True)
class Token:
    """A word of a line. `column` is the 1-based column of its start.

    `columns` are those of its characters, which quotes and backslashes can separate.
    """

    column: int
    text: str = ""
    columns: list[int] = field(default_factory=list)

    def add(self, character: str, column: int) -> None:
        self.text += character
        self.columns.append(column)

    def at(self, position: int) -> int:
        """Returns the column of a character of the text; for later positions, of the last one."""
        return self.columns[min(position, len(self.columns) - 1)] if self.columns else self.column


class _SyntaxError(ValueError):
    """An error in a line, with its 1-based column."""

    def __init__(self, column: int, detail: str) -> None:
        super().__init__(column, detail)
        self.column = column
        self.detail = detail


def parse(text: str) -> list[Step]:
    """Returns the steps of a workflow. Raises ocrd_errors.WorkflowInvalid."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ocrd_errors.WorkflowInvalid(
            f"The workflow is larger than {MAX_BYTES} bytes", limit=MAX_BYTES
        )
    steps: list[Step] = []
    # Some editors write a byte order mark.
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            steps.append(_step(number, line))
        except _SyntaxError as fault:
            _raise(number, fault)
        if len(steps) > MAX_STEPS:
            _raise(number, _SyntaxError(1, f"a workflow may have {MAX_STEPS} steps"))
    if not steps:
        raise ocrd_errors.WorkflowInvalid("The workflow is empty")
    return steps


def is_nextflow(text: str, filename: str = "") -> bool:
    """Returns whether a workflow is a Nextflow script, by its file name or its content."""
    return filename.lower().endswith(".nf") or _NEXTFLOW.search(text) is not None


def split(line: str) -> list[Token]:
    """Returns the words of a line, as `shlex.split` does, with their columns."""
    words: list[Token] = []
    position = 0
    while position < len(line):
        if line[position] in _WHITESPACE:
            position += 1
            continue
        word = Token(position + 1)
        position = _word(line, position, word)
        words.append(word)
    return words


def _word(line: str, position: int, word: Token) -> int:
    """Parses a word that begins at a position; returns the position after it."""
    while position < len(line) and line[position] not in _WHITESPACE:
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
        # In double quotes, a backslash escapes only a double quote or another backslash.
        if quote == '"' and line[position : position + 2] in ('\\"', "\\\\"):
            position += 1
        word.add(line[position], position + 1)
        position += 1
    raise _SyntaxError(start + 1, "this quote is not closed")


def _escaped(line: str, position: int, word: Token) -> int:
    if position + 1 == len(line):
        raise _SyntaxError(position + 1, "no character follows this backslash")
    word.add(line[position + 1], position + 2)
    return position + 2


def _raise(line: int, fault: _SyntaxError) -> NoReturn:
    raise ocrd_errors.WorkflowInvalid(
        f"line {line}, column {fault.column}: {fault.detail}", line=line, column=fault.column
    ) from None


@dataclass(slots=True)
class _StepOptions:
    """The options of a line."""

    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)


def _step(number: int, line: str) -> Step:
    tool, *rest = split(line)
    if tool.text.startswith("#"):
        raise _SyntaxError(tool.column, "a workflow has no comments")
    name = _PROCESSOR.fullmatch(tool.text)
    if name is None:
        raise _SyntaxError(tool.column, f"{_abbreviated(tool.text)} is not a processor name")
    options = _StepOptions()
    words = iter(rest)
    for option in words:
        handler = _OPTIONS.get(option.text)
        if handler is None:
            raise _SyntaxError(
                option.column,
                f"unknown option {_abbreviated(option.text)}; use -I, -O, -p or -P",
            )
        handler(options, option, words)
    if not options.inputs:
        raise _SyntaxError(
            len(line.rstrip()) + 1, "the option -I with an input file group is missing"
        )
    return Step(
        line=number,
        processor=f"ocrd-{name[1]}",
        input_file_grps=tuple(options.inputs),
        output_file_grps=tuple(options.outputs),
        parameters=options.parameters,
    )


def _inputs(options: _StepOptions, option: Token, words: Iterator[Token]) -> None:
    options.inputs += _groups(_value(option, words))


def _outputs(options: _StepOptions, option: Token, words: Iterator[Token]) -> None:
    options.outputs += _groups(_value(option, words))


def _parameters(options: _StepOptions, option: Token, words: Iterator[Token]) -> None:
    value = _value(option, words)
    text = value.text.lstrip()
    if text and text[0] != "{":
        raise _SyntaxError(
            value.column,
            '-p requires a JSON object, e.g. \'{"model": "deu"}\'; files are not supported',
        )
    options.parameters |= _object(value) if text else {}


def _parameter(options: _StepOptions, option: Token, words: Iterator[Token]) -> None:
    key = _value(option, words, "a name and a value")
    value = _value(option, words, "a name and a value")
    try:
        options.parameters[key.text] = _json(value.text)
    except (ValueError, RecursionError):
        options.parameters[key.text] = value.text


_OPTIONS: dict[str, Callable[[_StepOptions, Token, Iterator[Token]], None]] = {
    "-I": _inputs,
    "-O": _outputs,
    "-p": _parameters,
    "-P": _parameter,
}


def _value(option: Token, words: Iterator[Token], what: str = "a value") -> Token:
    for word in words:
        return word
    raise _SyntaxError(option.column, f"{option.text} requires {what}")


def _groups(names: Token) -> list[str]:
    groups = names.text.split(",")
    position = 0
    for group in groups:
        if not is_group_name(group):
            raise _SyntaxError(
                names.at(position), f"{_abbreviated(group)} is not a valid file group name"
            )
        position += len(group) + 1
    return groups


def _object(value: Token) -> dict[str, Any]:
    text = value.text.strip()
    try:
        found = _json(text)
    except json.JSONDecodeError as error:
        position = error.pos + value.text.index(text)
        raise _SyntaxError(value.at(position), f"invalid JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise _SyntaxError(value.column, f"invalid JSON: {error}") from None
    assert isinstance(found, dict)  # noqa: S101  # JSON that begins with a brace is an object
    return found


def _json(text: str) -> Any:
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> NoReturn:
    # Python accepts NaN and Infinity, which are not JSON and which no schema can check.
    raise ValueError(f"{name} is not a JSON number")


def _abbreviated(text: str) -> str:
    return repr(text) if len(text) <= 40 else f"{text[:40]!r}…"
