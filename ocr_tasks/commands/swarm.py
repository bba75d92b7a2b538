"""`ocr-tasks swarm …`: the manager of the page queue, and a device that reads its pages."""

from __future__ import annotations

import argparse
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ocr_tasks import settings
from ocr_tasks.commands.exits import REFUSED, UNAVAILABLE, USAGE, complain
from ocr_tasks.swarm import devices, queue

if TYPE_CHECKING:
    Subcommands = argparse._SubParsersAction[argparse.ArgumentParser]

_ENDINGS = "jpg,jpeg,tif,tiff,png"


def fill(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `swarm` with its own commands."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    _add_load(actions)
    _add_manager(actions)
    _add_join(actions)


def _add_load(actions: Subcommands) -> None:
    load = actions.add_parser(
        "load", help="have the images of a folder and its folders wait for devices"
    )
    load.add_argument(
        "folder",
        type=Path,
        metavar="DIR",
        help="known images are skipped, and those with transcripts",
    )
    load.add_argument("--name", help="name of the collection (default: that of the folder)")
    load.add_argument(
        "--transcripts",
        type=Path,
        metavar="DIR",
        help="where transcripts go (default: swarm/transcripts in the data folder)",
    )
    load.add_argument(
        "--extensions",
        default=_ENDINGS,
        metavar="LIST",
        help=f"endings of images, joined by commas (default: {_ENDINGS})",
    )
    load.add_argument("--languages", help="such as deu+eng (default: OCR_DEFAULT_LANGUAGES)")
    load.add_argument(
        "--delete-images", action="store_true", help="delete an image once its transcript is stored"
    )
    load.add_argument(
        "--as-png",
        action="store_true",
        help="hand TIFF and JPEG 2000 out as PNG, which browsers can read",
    )
    load.add_argument(
        "--again", action="store_true", help="also images that have a transcript already"
    )
    load.set_defaults(run=_load)


def _add_manager(actions: Subcommands) -> None:
    listing = actions.add_parser("list", help="list the pages of collections")
    listing.add_argument(
        "--state", choices=("waiting", "leased", "done", "aside"), help="only those"
    )
    listing.set_defaults(run=_list)

    purge = actions.add_parser("purge", help="forget the pages that have transcripts")
    purge.add_argument("--all", action="store_true", help="forget all pages")
    purge.set_defaults(run=_purge)

    again = actions.add_parser("again", help="have pages that were set aside wait once more")
    again.set_defaults(run=_again)

    stats = actions.add_parser("stats", help="how many pages there are, and what devices have done")
    stats.set_defaults(run=_stats)


def _add_join(actions: Subcommands) -> None:
    join = actions.add_parser("join", help="read pages of a server with the Tesseract here")
    join.add_argument("url", metavar="URL", help="of the server; the token is in OCR_TOKEN")
    join.add_argument(
        "--jobs", type=int, default=settings.cores(), metavar="N", help="pages at once"
    )
    join.add_argument("--name", default=socket.gethostname(), help="what the device calls itself")
    join.add_argument("--languages", help="such as deu+eng (default: all that are installed)")
    join.add_argument(
        "--until-empty", action="store_true", help="leave when no page waits, instead of waiting"
    )
    join.set_defaults(run=_join)


def _load(options: argparse.Namespace) -> int:
    from redis import RedisError

    from ocr_tasks.swarm import collections, loading

    folder = options.folder.resolve()
    if not folder.is_dir():
        return complain(f"{options.folder} is no folder", USAGE)
    name = options.name or collections.name_of(folder)
    default = settings.get().data_dir / "swarm" / "transcripts" / name
    chosen = collections.Collection(
        name=name,
        images=str(folder),
        transcripts=str((options.transcripts or default).resolve()),
        languages=tuple((options.languages or settings.get().default_languages).split("+")),
        delete_images=options.delete_images,
        as_png=options.as_png,
    )
    endings = {ending.strip(" .").lower() for ending in options.extensions.split(",")}
    counts = {"registered": 0, "known": 0, "read": 0, "unreadable": 0}
    try:
        collections.save(chosen)
        for row in loading.load(chosen, endings, options.again):
            what = row.result if row.result in counts else "unreadable"
            counts[what] += 1
            said = "Skipped" if what in ("known", "read") else row.result.capitalize()
            print(f"{said} {row.path}")
    except (collections.CollectionError, OSError) as error:
        return complain(str(error), USAGE)
    except RedisError as error:
        return complain(f"the job store cannot be used: {error}", UNAVAILABLE)
    print(
        f"{counts['registered']} registered, {counts['known']} known, {counts['read']} have "
        f"transcripts, {counts['unreadable']} cannot be read",
        file=sys.stderr,
    )
    return 0 if not counts["unreadable"] else 1


def _list(options: argparse.Namespace) -> int:
    from ocr_tasks.swarm import loading

    print("ID\tIMAGE\tSTATE\tDEVICE OR REASONS")
    for row in loading.pages():
        if options.state in (None, row.state):
            last = "; ".join(row.reasons) if row.state == "aside" else row.device
            print(f"{row.page.id}\t{row.page.key}\t{row.state}\t{last}")
    return 0


def _purge(options: argparse.Namespace) -> int:
    from ocr_tasks.swarm import loading

    print(f"Forgot {loading.purge(options.all)} pages; files stay")
    return 0


def _again(options: argparse.Namespace) -> int:
    from ocr_tasks.swarm import loading

    print(f"{loading.wait_again()} pages wait once more")
    return 0


def _stats(options: argparse.Namespace) -> int:
    for what, number in queue.counts().items():
        print(f"{what:12} {number}")
    print("\nDEVICE\tDONE\tOPEN\tFAILED\tEXPIRED\tLATE\tDIFFERED\tLAST SEEN")
    for row in devices.latest():
        seen = time.strftime("%Y-%m-%d %H:%MZ", time.gmtime(row.last))
        counts = (row.done, row.open, row.failed, row.expired, row.late)
        cells = (row.name, *counts, f"{row.disagreed}/{row.checked}", seen)
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
        with console.status("asking for pages") as status:
            worker.work(
                options.until_empty,
                lambda done, here: status.update(
                    f"{done.pages} pages read, {here} at hand"
                    + (f", {done.failed} failed" if done.failed else "")
                ),
            )
    except KeyboardInterrupt:
        pass
    except device.Refused as error:
        return complain(str(error), REFUSED)
    finally:
        worker.leave()
        done = worker.done
        each = f", {done.seconds / done.pages:.1f} s each" if done.pages else ""
        print(
            f"{done.pages} pages read{each}, {done.failed} failed, {done.lost} lost to others"
            + "".join(f"\n{count:6} for {url}" for url, count in done.servers.items()),
            file=sys.stderr,
        )
    return 0
