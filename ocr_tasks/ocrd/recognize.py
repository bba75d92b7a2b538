"""The program `ocrd-ocr-tasks-recognize`: OCR-D's command-line interface for `recognition`.

    ocrd-ocr-tasks-recognize -I OCR-D-IMG -O OCR-D-OCR -P languages deu+eng

The options are specified in https://ocr-d.de/en/spec/cli. The exit status is 0 or 1. Workers do not
use this program: they call `recognition` directly.
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
from ocr_tasks.ocrd import errors as ocrd_errors
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
        # OCR-D's exit status for all errors is 1.
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the processor and returns its exit status."""
    parser = _parser()
    args = parser.parse_args(arguments)
    _log(args.log_level)
    if args.version:
        print(f"Version {version('ocr-tasks')}")
    elif args.dump_json:
        print(json.dumps(recognition.tool(), indent=1))
    elif not args.input_file_grp or not args.output_file_grp:
        parser.print_help()
        return 0 if args.help else 1
    else:
        return _run(args)
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
    add("-I", "--input-file-grp", metavar="GROUP", help="input file group")
    add("-O", "--output-file-grp", metavar="GROUP", help="output file group")
    add(
        "-g", "--page-id", default="", metavar="IDS", help="pages: ids, A..B, //REGEX; default: all"
    )
    add("-w", "--working-dir", metavar="DIR", help="folder of the workspace; default: that of METS")
    add("-m", "--mets", default="mets.xml", metavar="FILE", help="METS file; default: mets.xml")
    add("--overwrite", action="store_true", help="replace existing output")
    add(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="JSON",
        help="parameters as a JSON object or file",
    )
    add("-P", "--param-override", action="append", nargs=2, default=[], metavar=("NAME", "VALUE"))
    add("-l", "--log-level", choices=_LEVELS, default="INFO")
    add("-J", "--dump-json", action="store_true", help="print the description of this processor")
    add("-h", "--help", action="store_true", help="print this help")
    add("-V", "--version", action="store_true", help="print the version")
    return parser


def _run(args: argparse.Namespace) -> int:
    try:
        recognition.run(_order(args))
    except (errors.OcrTasksError, OSError, ValueError) as error:
        log.critical("%s", error)
        return 1
    return 0


def _order(args: argparse.Namespace) -> recognition.Order:
    folder = Path(args.working_dir or Path(args.mets).parent).resolve()
    return recognition.Order(
        folder=folder,
        # Like OCR-D: a name without a folder refers to the working directory.
        mets=folder / args.mets if Path(args.mets).name == args.mets else Path(args.mets),
        input_file_grp=args.input_file_grp,
        output_file_grp=args.output_file_grp,
        page_id=args.page_id,
        parameters=_parameters(args.parameter, args.param_override),
        existing="OVERWRITE" if args.overwrite else "ABORT",
    )


def _parameters(objects: list[str], single: list[list[str]]) -> dict[str, Any]:
    """Returns the parameters of a command line; later options take precedence."""
    # A slow import that only the command line needs.
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
        raise ocrd_errors.ParametersInvalid(f"-p is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ocrd_errors.ParametersInvalid("-p is not a JSON object")
    return found


def _log(level: str) -> None:
    """Configures logging in OCR-D's format."""
    logging.basicConfig(
        level=_LEVELS[level],
        format=recognition.LOG_FORMAT,
        datefmt=recognition.LOG_TIME,
        force=True,
    )


if __name__ == "__main__":
    sys.exit(main())
