"""`ocr-tasks ocr`: reads one document, on a server or on one that runs for as long as it takes."""

from __future__ import annotations

import argparse
from pathlib import Path

from ocr_tasks.commands import ocr_calls, requests


def fill(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `ocr`."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="several become one PDF"
    )
    parser.add_argument("-o", "--output", type=Path, help="default: FILE-ocr.pdf beside the first")
    parser.add_argument("--text", type=Path, metavar="FILE", help="write the text as well")
    requests.add_options(
        parser, otherwise="; if none answers there, one is started for this document"
    )
    parser.set_defaults(run=ocr_calls.ocr)
