"""Fetches a METS file from the web, and files that it names."""

from __future__ import annotations

import re
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from ocr_tasks import errors
from ocr_tasks.ocrd.mets.mets import File, Mets, is_group_name
from ocr_tasks.ocrd.mets.paths import fault, is_url, is_web_address
from ocr_tasks.security import fetch, url_guard
from ocr_tasks.storage import layout

if TYPE_CHECKING:
    import httpx

_ENDINGS = {
    "image/tiff": ".tif",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/jp2": ".jp2",
    "application/pdf": ".pdf",
    "text/plain": ".txt",
    "text/html": ".html",
}


class Fetcher(fetch.Fetcher):
    """Fetches the files of a workspace within limits that hold for all of them together."""

    def __init__(
        self, seconds: float, most_bytes: int, resolve: url_guard.Resolve = url_guard.resolve
    ) -> None:
        """`most_bytes` is for all files."""
        super().__init__(
            seconds, most_bytes, errors.WorkspaceDownloadFailed, errors.WorkspaceInvalid, resolve
        )

    def save(self, url: str, path: Path, most: int | None = None) -> str:
        """Downloads a URL to a file and returns the final URL after redirects."""
        with self.open(url) as (address, pieces):
            size = 0
            with layout.storage_errors():
                path.parent.mkdir(parents=True, exist_ok=True)
                file = path.open("xb")
            with file:
                for piece in pieces:
                    size += len(piece)
                    if most is not None and size > most:
                        raise errors.WorkspaceInvalid(f"{url:.200} is larger than {most} bytes")
                    with layout.storage_errors():
                        file.write(piece)
            return address


def fill(
    fetcher: Fetcher, mets: Mets, url: str, path: Path, groups: Collection[str], most: int
) -> None:
    """Fetches the files of some groups beside a METS file, and says in `mets` where they are.

    `url` is where METS came from, `path` where it is now. Paths stay as they are, as the XML of
    pages may name them; what has an address becomes `<group>/<id>.<ending>`. Files of other groups
    keep their addresses.
    """
    base = url_guard.url(url)
    wanted = {path.name: url}
    for file in mets.files():
        address = _address(file, base)
        if file.group not in groups:
            mets.point(file.id, address)
            continue
        name = str(PurePosixPath(file.href)) if file.local else _name(file)
        if wanted.setdefault(name, address) != address:
            raise errors.WorkspaceInvalid(
                f"METS references two files that would both be stored as {name!r:.200}"
            )
        mets.point(file.id, name)
    if len(wanted) > most:
        raise errors.WorkspaceInvalid(f"METS references more than {most} files", limit=most)
    for above in {str(folder) for name in wanted for folder in PurePosixPath(name).parents}:
        if above in wanted:
            raise errors.WorkspaceInvalid(f"METS uses {above!r:.200} as a file and as a folder")
    del wanted[path.name]
    _all(fetcher, [(address, path.parent / name) for name, address in wanted.items()])


def _address(file: File, base: httpx.URL) -> str:
    """Where a file is on the web."""
    wrong = fault(file.href) if file.local else ""
    if file.local and not wrong and not is_url(file.href):
        # A path is no address yet: `#`, `?` and `%` are letters of it.
        return str(base.join("./").copy_with(query=None)) + quote(file.href, safe="/")
    if file.local or not is_web_address(file.href):
        wrong = wrong or "it is not an http(s) URL"
        raise errors.WorkspaceInvalid(f"METS references {file.href!r:.200}: {wrong}")
    return file.href


def _name(file: File) -> str:
    if not is_group_name(file.id):
        raise errors.WorkspaceInvalid(f"METS has a file with the invalid ID {file.id!r:.200}")
    ending = _ENDINGS.get(file.media_type, "")
    if "xml" in file.media_type:
        ending = ".xml"
    elif not ending:
        suffix = PurePosixPath(url_guard.url(file.href).path).suffix
        ending = suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", suffix) else ""
    return f"{file.group}/{file.id}{ending}"


def _all(fetcher: Fetcher, wanted: list[tuple[str, Path]]) -> None:
    """Fetches files, a few at once, until one cannot be fetched."""
    failures: list[Exception] = []

    def save(address: str, path: Path) -> None:
        try:
            if not failures:
                fetcher.save(address, path)
        except Exception as error:
            failures.append(error)
            fetcher.give_up()

    with ThreadPoolExecutor(fetch.AT_ONCE) as pool:
        for row in wanted:
            pool.submit(save, *row)
    # Those after the first one failed because of it.
    if failures:
        raise failures[0]
