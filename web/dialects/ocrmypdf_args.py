"""Converts OCRmyPDF's command-line arguments to job options.

Names and meanings are those of `ocrmypdf --help`, version 17
(https://ocrmypdf.readthedocs.io/en/latest/cookbook.html). Arguments are never passed to OCRmyPDF:
unknown ones are rejected, and those without effect here are listed in `_IDLE`.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from ocr_tasks import errors, options
from ocr_tasks.options import JobOptions

#: Maximum number of characters of all arguments.
_LONGEST = 10_000


@dataclass(frozen=True, slots=True)
class _Flag:
    """An argument without a value, which sets a job option to a fixed value."""

    names: tuple[str, ...]
    option: str
    value: Any = True


@dataclass(frozen=True, slots=True)
class _Valued:
    """An argument with a value, which is used as it is or mapped to that of a job option."""

    names: tuple[str, ...]
    option: str
    called: Mapping[str, str] | None = None


_FLAGS = (
    _Flag(("--skip-text", "-s"), "mode", "skip"),
    _Flag(("--redo-ocr",), "mode", "redo"),
    _Flag(("--force-ocr", "-f"), "mode", "force"),
    _Flag(("--rotate-pages", "-r"), "rotate_pages"),
    _Flag(("--deskew", "-d"), "deskew"),
    _Flag(("--clean", "-c"), "clean"),
    _Flag(("--remove-background",), "remove_background"),
    _Flag(("--invalidate-digital-signatures",), "allow_signed"),
)

_MODES = {"default": "refuse", "skip": "skip", "redo": "redo", "force": "force"}

#: PDF/A is always PDF/A-2b.
_OUTPUT_TYPES = {"auto": "pdfa", "pdfa": "pdfa", "pdfa-2": "pdfa", "pdf": "pdf"}

_VALUED = (
    _Valued(("--language", "-l"), "languages"),
    _Valued(("--mode", "-m"), "mode", _MODES),
    _Valued(("--output-type",), "output_type", _OUTPUT_TYPES),
    _Valued(("--optimize", "-O"), "optimize"),
    _Valued(("--pages",), "pages"),
    _Valued(("--tesseract-pagesegmode",), "page_segmentation"),
    _Valued(("--image-dpi",), "image_dpi"),
    _Valued(("--title",), "title"),
    _Valued(("--author",), "author"),
    _Valued(("--subject",), "subject"),
    _Valued(("--keywords",), "keywords"),
)

#: Arguments without effect, with their number of values in argparse's notation: the number of
#: processes is configured on the server, and no existing file can be overwritten.
_IDLE: tuple[tuple[tuple[str, ...], int | str], ...] = (
    (("--jobs", "-j"), 1),
    (("--quiet", "-q"), 0),
    (("--verbose", "-v"), "?"),
    (("--no-progress-bar",), 0),
    (("--use-threads",), 0),
    (("--no-use-threads",), 0),
    (("--no-overwrite", "-n"), 0),
)

#: Text is a separate artifact; the argument's file name is ignored.
_SIDECAR = "--sidecar"

_ARGUMENTS = {row.option: row.names[0] for row in (*_FLAGS, *_VALUED)}


def parse(words: str, **chosen: Any) -> JobOptions:
    """Returns the job options for arguments of OCRmyPDF, with `chosen` as additional options.

    The arguments are split as in a shell. As with OCRmyPDF, documents with text are rejected if no
    argument says how to process pages with text. Raises `InvalidOptions`.
    """
    if len(words) > _LONGEST:
        raise errors.InvalidOptions(f"The arguments have more than {_LONGEST} characters")
    try:
        parts = shlex.split(words)
    except ValueError as error:
        raise errors.InvalidOptions(f"The arguments cannot be parsed: {error}") from None
    found, unknown = _parser().parse_known_args(parts)
    if unknown:
        raise errors.InvalidOptions(
            f"{unknown[0][:100]!r} is not supported; supported arguments: {', '.join(_names())}"
        )
    values = {"mode": _mode(found.mode), **_values(found), **chosen}
    try:
        return options.from_dict(values)
    except errors.InvalidOptions as error:
        raise _in_their_words(error) from None


def understood() -> list[tuple[str, str]]:
    """Returns each argument with its job option, for the documentation."""
    rows = [(", ".join(row.names), f"`{row.option}={_word(row.value)}`") for row in _FLAGS]
    for valued in _VALUED:
        called = valued.called or {}
        choices = ", ".join(f"{theirs}: `{ours}`" for theirs, ours in called.items())
        rows.append((", ".join(valued.names), f"`{valued.option}`" + (choices and f"; {choices}")))
    rows.append((_SIDECAR, "`sidecar=true`; the name of a file is ignored"))
    rows += [(", ".join(names), "nothing; it is ignored") for names, _ in _IDLE]
    return rows


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise errors.InvalidOptions(message[:300])


def _parser() -> _Parser:
    parser = _Parser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.set_defaults(mode=[])
    for flag in _FLAGS:
        action = "append_const" if flag.option == "mode" else "store_const"
        parser.add_argument(*flag.names, dest=flag.option, action=action, const=flag.value)
    for row in _VALUED:
        action = "append" if row.option in ("mode", "languages") else "store"
        called = list(row.called) if row.called else None
        parser.add_argument(*row.names, dest=row.option, action=action, choices=called)
    parser.add_argument(_SIDECAR, nargs="?")
    for names, count in _IDLE:
        if count == 0:
            parser.add_argument(*names, dest="idle", action="store_true")
        else:
            parser.add_argument(*names, dest="idle", nargs=count)
    return parser


def _names() -> list[str]:
    valued = [row.names[0] for row in (*_FLAGS, *_VALUED)]
    return [*valued, _SIDECAR, *(names[0] for names, _ in _IDLE)]


def _mode(chosen: list[str]) -> str:
    modes = {_MODES.get(word, word) for word in chosen}
    if len(modes) > 1:
        raise errors.InvalidOptions("Choose one of --skip-text, --redo-ocr, --force-ocr and --mode")
    return modes.pop() if modes else "refuse"


def _values(found: argparse.Namespace) -> dict[str, Any]:
    values = {
        name: value
        for name, value in vars(found).items()
        if name not in ("mode", "idle", "sidecar")
    }
    if "languages" in values:
        values["languages"] = [part for word in values["languages"] for part in word.split("+")]
    if "output_type" in values:
        values["output_type"] = _OUTPUT_TYPES[values["output_type"]]
    if "sidecar" in vars(found):
        values["sidecar"] = True
    return values


def _in_their_words(error: errors.InvalidOptions) -> errors.InvalidOptions:
    """Returns the same error with the names of arguments instead of options."""
    rows = [
        {**row, "argument": _ARGUMENTS.get(row["pointer"].split("/")[1], "the arguments")}
        for row in error.extra["errors"]
    ]
    return errors.InvalidOptions(
        "; ".join(f"{row['argument']}: {row['detail']}" for row in rows), errors=rows
    )


def _word(value: Any) -> str:
    return "true" if value is True else str(value)
