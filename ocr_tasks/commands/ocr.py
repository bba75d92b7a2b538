"""`ocr-tasks ocr`: runs OCR on one document, using a running server or a temporary one."""

from __future__ import annotations

import argparse
from pathlib import Path

from ocr_tasks.commands import client_arguments, ocr_calls


def fill(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `ocr`."""
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="the document and, optionally, the PDF to write (default: FILE-ocr.pdf); with -o, "
        "several documents that become one PDF; - is standard input or output",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="PDF", help="the PDF to write")
    parser.add_argument("--text", type=Path, metavar="FILE", help="also write the text")
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    client_arguments.add_options(
        parser,
        otherwise="; if neither --url nor OCR_URL is set and no server responds, one is started "
        "for this document",
    )
    parser.set_defaults(run=ocr_calls.ocr, url=None)
