"""`ocr-tasks swarm …`: manages the page queue, or runs OCR as a device of the swarm."""

from __future__ import annotations

import argparse
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from ocr_tasks import argument_types, settings
from ocr_tasks.exits import REFUSED, USAGE, report
from ocr_tasks.redis import connection
from ocr_tasks.swarm import devices, queue

if TYPE_CHECKING:
    Subcommands = argparse._SubParsersAction[argparse.ArgumentParser]

_NO_SECOND_CLIENT = (
    "no device with another token or IP address had requested pages shortly before. "
    "Create a token for each person or device."
)
_EXTENSIONS = "jpg,jpeg,tif,tiff,png"


def fill(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `swarm` with its subcommands."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    _add_load(actions)
    _add_manager(actions)
    _add_join(actions)


def _add_load(actions: Subcommands) -> None:
    load = actions.add_parser("load", help="queue the images of a folder and its subfolders")
    load.add_argument(
        "folder",
        type=Path,
        metavar="DIR",
        help="folder of images; skips images that are queued or have a transcript",
    )
    load.add_argument("--name", help="name of the collection (default: name of the folder)")
    load.add_argument(
        "--transcripts",
        type=Path,
        metavar="DIR",
        help="folder for transcripts (default: swarm/transcripts in the data folder)",
    )
    load.add_argument(
        "--extensions",
        default=_EXTENSIONS,
        metavar="LIST",
        help=f"comma-separated file extensions of images (default: {_EXTENSIONS})",
    )
    load.add_argument("--languages", help="e.g. deu+eng (default: OCR_DEFAULT_LANGUAGES)")
    load.add_argument(
        "--delete-images",
        action=argparse.BooleanOptionalAction,
        help="delete each image when its transcript is stored",
    )
    load.add_argument(
        "--as-png",
        action=argparse.BooleanOptionalAction,
        help="send TIFF and JPEG 2000 images as PNG, which browsers support",
    )
    load.add_argument(
        "--again", action="store_true", help="also queue images that already have a transcript"
    )
    load.set_defaults(run=_load)


def _add_manager(actions: Subcommands) -> None:
    listing = actions.add_parser("list", help="list the pages of collections")
    listing.add_argument(
        "--state",
        choices=("waiting", "leased", "done", "aside"),
        help="only pages in this state",
    )
    listing.add_argument(
        "--device",
        metavar="NAME",
        help="only pages that a device has or transcribed, or all devices of a client (token/ID)",
    )
    listing.set_defaults(run=_list)

    purge = actions.add_parser(
        "purge", help="remove pages that have transcripts; keeps images and transcripts"
    )
    purge.add_argument("--all", action="store_true", help="remove all pages")
    purge.set_defaults(run=_purge)

    again = actions.add_parser("again", help="queue failed pages again (state: aside)")
    again.set_defaults(run=_again)

    requeue = actions.add_parser(
        "requeue", help="queue the pages of a device again, e.g. of one that is blocked"
    )
    requeue.add_argument(
        "--device",
        required=True,
        metavar="NAME",
        help="name of the device, or of a client (token/ID) for all its devices",
    )
    requeue.set_defaults(run=_requeue)

    stats = actions.add_parser("stats", help="show page counts and statistics of devices")
    stats.set_defaults(run=_stats)


def _add_join(actions: Subcommands) -> None:
    join = actions.add_parser("join", help="run OCR on a server's pages with the local Tesseract")
    join.add_argument(
        "url",
        type=argument_types.url,
        metavar="URL",
        help="URL of the server; the token is read from OCR_TOKEN",
    )
    join.add_argument(
        "--jobs",
        type=argument_types.whole(1, 1000),
        default=settings.cores(),
        metavar="N",
        help="pages to process at the same time (default: number of cores)",
    )
    join.add_argument(
        "--name",
        default=socket.gethostname(),
        help="name of the device (default: host name)",
    )
    join.add_argument("--languages", help="e.g. deu+eng (default: all installed languages)")
    join.add_argument("--until-empty", action="store_true", help="exit when the queue is empty")
    join.set_defaults(run=_join)


@connection.translated_errors()
def _load(options: argparse.Namespace) -> int:
    from ocr_tasks.swarm import collections, loading

    folder = options.folder.resolve()
    if not folder.is_dir():
        return report(f"{options.folder} is not a folder", USAGE)
    name = options.name or collections.name_of(folder)
    given = {
        "transcripts": options.transcripts and str(options.transcripts.resolve()),
        "languages": options.languages and tuple(options.languages.split("+")),
        "delete_images": options.delete_images,
        "as_png": options.as_png,
    }
    changed = {field: value for field, value in given.items() if value is not None}
    extensions = {text.strip(" .").lower() for text in options.extensions.split(",")}
    counts = {"registered": 0, "known": 0, "read": 0, "unreadable": 0}
    try:
        collection = collections.open_folder(name, folder, **changed)
        collections.save(collection)
        for row in loading.load(collection, extensions, options.again):
            result = row.result if row.result in counts else "unreadable"
            counts[result] += 1
            if result == "unreadable":
                print(f"{row.path}: {row.result}", file=sys.stderr)
            else:
                print("Registered" if result == "registered" else "Skipped", row.path)
    except (collections.CollectionError, OSError) as error:
        return report(str(error), USAGE)
    print(
        f"{counts['registered']} registered, {counts['known']} already registered, "
        f"{counts['read']} with transcripts, {counts['unreadable']} unreadable",
        file=sys.stderr,
    )
    return 0 if not counts["unreadable"] else 1


@connection.translated_errors()
def _list(options: argparse.Namespace) -> int:
    from ocr_tasks.swarm import loading

    print("ID\tIMAGE\tSTATE\tDEVICE OR REASONS\tTRANSCRIBED BY")
    for row in loading.pages():
        found = (row.device, row.transcribed_by)
        if options.state not in (None, row.state):
            continue
        if options.device and not any(loading.is_of(each, options.device) for each in found):
            continue
        detail = "; ".join(row.reasons) if row.state == "aside" else row.device
        print(f"{row.page.id}\t{row.page.key}\t{row.state}\t{detail}\t{row.transcribed_by}")
    return 0


@connection.translated_errors()
def _purge(options: argparse.Namespace) -> int:
    from ocr_tasks.swarm import loading

    print(f"Removed {loading.purge(options.all)} pages; images and transcripts are kept")
    return 0


@connection.translated_errors()
def _again(options: argparse.Namespace) -> int:
    from ocr_tasks.swarm import loading

    print(f"Queued {loading.wait_again()} pages again")
    return 0


@connection.translated_errors()
def _requeue(options: argparse.Namespace) -> int:
    from ocr_tasks.swarm import loading

    counts = Counter[bool]()
    for page, exists in loading.requeue(options.device):
        counts[exists] += 1
        if not exists:
            print(f"{page.key}: its image was deleted", file=sys.stderr)
    print(f"Queued {counts[True]} pages again; {counts[False]} have no image any more")
    return 1 if counts[False] else 0


@connection.translated_errors()
def _stats(options: argparse.Namespace) -> int:
    counts = queue.counts()
    for name, number in counts.items():
        print(f"{name:12} {number}")
    if counts["unchecked"]:
        print(
            f"\n{counts['unchecked']} transcripts could not be cross-checked: {_NO_SECOND_CLIENT}"
        )
    print("\nDEVICE\tDONE\tOPEN\tFAILED\tEXPIRED\tLATE\tDIFFERED\tLAST SEEN")
    for row in devices.latest():
        seen = time.strftime("%Y-%m-%d %H:%MZ", time.gmtime(row.last))
        numbers = (row.done, row.open, row.failed, row.expired, row.late)
        cells = (row.name, *numbers, f"{row.disagreed}/{row.checked}", seen)
        print("\t".join(map(str, cells)) + ("" if row.trusted else "\tnot trusted"))
    return 0


def _join(options: argparse.Namespace) -> int:
    from rich.console import Console

    from ocr_tasks.client import environment
    from ocr_tasks.swarm import device

    console = Console(stderr=True)
    languages = options.languages.split("+") if options.languages else None
    worker = device.Device(options.url, environment.token(), options.name, options.jobs, languages)
    try:
        with console.status("requesting pages") as status:
            worker.work(
                options.until_empty,
                lambda done, active: status.update(
                    f"{done.pages} pages processed, {active} in progress"
                    + (f", {done.failed} failed" if done.failed else "")
                ),
            )
    except KeyboardInterrupt:
        pass
    except device.Refused as error:
        return report(str(error), REFUSED)
    finally:
        worker.leave()
        done = worker.done
        each = f", {done.seconds / done.pages:.1f} s each" if done.pages else ""
        print(
            f"{done.pages} pages processed{each}, {done.failed} failed, {done.lost} lost"
            + "".join(f"\n{count:6} for {url}" for url, count in done.servers.items()),
            file=sys.stderr,
        )
    return 0
