"""The processor `ocrd-ocr-tasks-recognize`: OCR-D's command line for `recognition`.

    ocrd-ocr-tasks-recognize -I OCR-D-IMG -O OCR-D-OCR -P languages deu+eng

https://ocr-d.de/en/spec/cli says what the options mean. It ends with 0 if all went well, else with
1. Workers run `recognition` themselves.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from ocr_tasks import errors
from ocr_tasks.ocrd import recognition
from ocr_tasks.ocrd.model import RECOGNIZE

log = logging.getLogger("ocr_tasks.recognize")

_LEVELS = {
    **{"OFF": logging.CRITICAL + 1, "ERROR": logging.ERROR, "WARN": logging.WARNING},
    **{"INFO": logging.INFO, "DEBUG": logging.DEBUG, "TRACE": logging.DEBUG},
}
_COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # A processor knows no other status than 1 for what goes wrong.
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the processor; gives its exit status."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    _log(asked.log_level)
    if asked.version:
        print(f"Version {version('ocr-tasks')}")
    elif asked.dump_json:
        print(json.dumps(recognition.tool(), indent=1))
    elif not asked.input_file_grp or not asked.output_file_grp:
        parser.print_help()
        return 0 if asked.help else 1
    else:
        return _run(asked)
    return 0


def _parser() -> argparse.ArgumentParser:
    parameters = recognition.tool()["parameters"].items()
    described = "\n".join(
        f"  {name} [{row['type']}, {json.dumps(row['default'])}]: {row['description']}"
        for name, row in parameters
    )
    parser = _Parser(
        prog=RECOGNIZE,
        description=recognition.tool()["description"],
        epilog=f"Parameters:\n{described}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-I", "--input-file-grp", metavar="GROUP", help="file group that is read")
    add("-O", "--output-file-grp", metavar="GROUP", help="file group that is written")
    add("-g", "--page-id", default="", metavar="IDS", help="pages: ids, A..B, //REGEX; else all")
    add("-w", "--working-dir", metavar="DIR", help="folder of the workspace; else that of METS")
    add("-m", "--mets", default="mets.xml", metavar="FILE", help="METS file; else mets.xml")
    add("--overwrite", action="store_true", help="make pages anew that have output already")
    add("-p", "--parameter", action="append", default=[], metavar="JSON", help="an object or file")
    add("-P", "--param-override", action="append", nargs=2, default=[], metavar=("NAME", "VALUE"))
    add("-l", "--log-level", choices=_LEVELS, default="INFO")
    add("-J", "--dump-json", action="store_true", help="print the description of this processor")
    add("-h", "--help", action="store_true", help="print this")
    add("-V", "--version", action="store_true", help="print the version")
    return parser


def _run(asked: argparse.Namespace) -> int:
    try:
        recognition.run(_order(asked))
    except (errors.OcrTasksError, OSError, ValueError) as error:
        log.critical("%s", error)
        return 1
    return 0


def _order(asked: argparse.Namespace) -> recognition.Order:
    folder = Path(asked.working_dir or Path(asked.mets).parent).resolve()
    return recognition.Order(
        folder=folder,
        # As OCR-D has it: a name alone is that of a file in the working directory.
        mets=folder / asked.mets if Path(asked.mets).name == asked.mets else Path(asked.mets),
        input_file_grp=asked.input_file_grp,
        output_file_grp=asked.output_file_grp,
        page_id=asked.page_id,
        parameters=_parameters(asked.parameter, asked.param_override),
        existing="OVERWRITE" if asked.overwrite else "ABORT",
    )


def _parameters(objects: list[str], single: list[list[str]]) -> dict[str, Any]:
    """The parameters of a command line: what is said later counts."""
    # Only a command line needs it, and it loads much.
    from ocr_tasks.ocrd import tools

    given: dict[str, Any] = {}
    for text in objects:
        given |= _object(text)
    for name, text in single:
        try:
            given[name] = json.loads(text)
        except ValueError:
            given[name] = text
    return tools.check_parameters(recognition.tool(), given)


def _object(text: str) -> dict[str, Any]:
    if text.strip() and not text.lstrip().startswith("{"):
        text = Path(text).read_text(encoding="utf-8")
    try:
        found = json.loads(_COMMENT.sub("", text) or "{}")
    except ValueError as error:
        raise errors.ParametersInvalid(f"-p is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise errors.ParametersInvalid("-p is not a JSON object")
    return found


def _log(level: str) -> None:
    """Has this process say things as OCR-D does."""
    logging.basicConfig(
        level=_LEVELS[level],
        format=recognition.LOG_FORMAT,
        datefmt=recognition.LOG_TIME,
        force=True,
    )


if __name__ == "__main__":
    sys.exit(main())
