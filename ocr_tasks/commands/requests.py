"""What all commands take that have documents read: which server, and how."""

from __future__ import annotations

import argparse
import re

from ocr_tasks.client import Option, environment
from ocr_tasks.client.models import ENDINGS


def add_options(parser: argparse.ArgumentParser, otherwise: str = "") -> None:
    """Adds the options; `otherwise` says what happens if the server does not answer."""
    parser.add_argument("-l", "--languages", help="such as deu+eng")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any option of GET /v1/options, such as deskew=true; may be repeated",
    )
    parser.add_argument(
        "--url",
        default=environment.url(),
        help=f"server to use (OCR_URL, or at OCR_PORT; default {environment.DEFAULT_URL}), with "
        f"the token in OCR_TOKEN if that is set{otherwise}",
    )


def wanted(options: argparse.Namespace) -> dict[str, Option]:
    """The options of a job that a command line asks for."""
    if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", options.url):
        raise ValueError(f"--url takes an address such as {environment.DEFAULT_URL}")
    fields: dict[str, Option] = {}
    for pair in options.option:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--option takes NAME=VALUE, not {pair!r}")
        fields[name] = value
    if options.languages:
        fields["languages"] = options.languages.replace(",", "+").split("+")
    return fields


def add_results(parser: argparse.ArgumentParser) -> None:
    """Adds which results of a document are wanted, and how many documents are read at once."""
    parser.add_argument(
        "--also",
        default="",
        metavar="NAMES",
        help="results beside the PDF, joined by commas: text, hocr, alto, json",
    )
    parser.add_argument("--text", action="store_true", help="the same as --also text")
    parser.add_argument(
        "-j", "--jobs", type=_number, default=4, metavar="N", help="documents at a time (4)"
    )


def artifacts(options: argparse.Namespace) -> list[str]:
    """The results that a command line asks for, the PDF first."""
    names = ["pdf", *filter(None, options.also.split(",")), *(["text"] if options.text else [])]
    for name in names:
        if name not in ENDINGS:
            raise ValueError(f"--also takes some of {', '.join(ENDINGS)}, not {name!r}")
    return list(dict.fromkeys(names))


def _number(text: str) -> int:
    if 1 <= int(text) <= 100:
        return int(text)
    raise argparse.ArgumentTypeError("1 to 100")
