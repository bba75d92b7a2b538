"""`ocr-tasks ocr`: runs OCR on one document, using a running server or a temporary one."""

from __future__ import annotations

import argparse
from pathlib import Path

from ocr_tasks.commands import client_arguments, ocr_calls


def fill(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `ocr`."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="several files become one PDF"
    )
    parser.add_argument(
        "-o", "--output", type=Path, help="default: FILE-ocr.pdf next to the first file"
    )
    parser.add_argument("--text", type=Path, metavar="FILE", help="also write the text")
    client_arguments.add_options(
        parser, otherwise="; if no server responds, one is started for this document"
    )
    parser.set_defaults(run=ocr_calls.ocr)
