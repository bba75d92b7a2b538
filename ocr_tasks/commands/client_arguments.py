"""Arguments shared by the commands that submit documents: the server and the job options."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ocr_tasks import argument_types
from ocr_tasks.client import Option, environment
from ocr_tasks.client.models import ENDINGS


def add_options(parser: argparse.ArgumentParser, otherwise: str = "") -> None:
    """Adds the arguments. `otherwise` is help text about what happens if no server responds."""
    parser.add_argument("-l", "--languages", help="e.g. deu+eng")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any job option, e.g. deskew=true (see the options reference); repeatable",
    )
    parser.add_argument(
        "--url",
        type=argument_types.url,
        default=environment.url(),
        help="URL of the server (default: OCR_URL, or port OCR_PORT on this machine, or "
        f"{environment.DEFAULT_URL}); "
        f"the token is read from OCR_TOKEN{otherwise}",
    )


def job_options(options: argparse.Namespace) -> dict[str, Option]:
    """Returns the job options that a command line sets. Raises ValueError if one is invalid."""
    fields: dict[str, Option] = {}
    for pair in options.option:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--option must be NAME=VALUE, not {pair!r}")
        fields[name] = value
    if options.languages:
        fields["languages"] = options.languages.replace(",", "+").split("+")
    return fields


def add_results(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments for the results to download and the number of concurrent documents."""
    parser.add_argument(
        "--also",
        default="",
        metavar="NAMES",
        help="comma-separated results in addition to the PDF: text, hocr, alto, json",
    )
    parser.add_argument("--text", action="store_true", help="same as --also text")
    parser.add_argument(
        "-j",
        "--jobs",
        type=argument_types.whole(1, 100),
        default=4,
        metavar="N",
        help="documents to process at the same time (default: 4)",
    )


def artifacts(options: argparse.Namespace) -> list[str]:
    """Returns the names of the results that a command line selects, the PDF first."""
    names = ["pdf", *filter(None, options.also.split(",")), *(["text"] if options.text else [])]
    for name in names:
        if name not in ENDINGS:
            others = ", ".join(other for other in ENDINGS if other != "pdf")
            raise ValueError(f"--also must be from {others}, not {name!r}")
    return list(dict.fromkeys(names))


def output_error(folder: Path) -> str:
    """Creates the folder for results. Returns why it cannot be used, or an empty text."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"{folder} cannot be created: {error.strerror}"
    return "" if os.access(folder, os.W_OK) else f"{folder} is not writable"
