"""`ocr-tasks ocr`: reads one document, on a server or on one that runs for as long as it takes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ocr_tasks import settings

if TYPE_CHECKING:
    Subcommands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_to(commands: Subcommands) -> None:
    """Adds `ocr` to the commands of the command line."""
    ocr = commands.add_parser("ocr", help="read a document and write a searchable PDF")
    ocr.add_argument("files", nargs="+", type=Path, metavar="FILE", help="several become one PDF")
    ocr.add_argument("-o", "--output", type=Path, help="default: FILE-ocr.pdf beside the first")
    ocr.add_argument("--text", type=Path, metavar="FILE", help="write the text as well")
    ocr.add_argument("-l", "--languages", help="such as deu+eng")
    ocr.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any option of GET /v1/options, such as deskew=true; may be repeated",
    )
    ocr.add_argument(
        "--url",
        default=settings.client_url(),
        help=f"server to use (OCR_URL, default {settings.DEFAULT_URL}), with the token in "
        "OCR_TOKEN if that is set; if none answers there, one is started for this document",
    )
    ocr.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ocr_tasks.commands import ocr_calls  # other commands need not load what that needs

    return ocr_calls.ocr(options)
