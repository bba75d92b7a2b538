"""Downloads a METS file and the files that it references."""

from __future__ import annotations

import re
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd.mets.mets import File, Mets, is_group_name
from ocr_tasks.ocrd.mets.paths import is_http_url, is_url, path_error
from ocr_tasks.security import fetch, url_guard
from ocr_tasks.storage import layout

if TYPE_CHECKING:
    import httpx

_SUFFIXES = {
    "image/tiff": ".tif",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/jp2": ".jp2",
    "application/pdf": ".pdf",
    "text/plain": ".txt",
    "text/html": ".html",
}


class Fetcher(fetch.Fetcher):
    """Downloads the files of a workspace; its limits apply to all of them together."""

    def __init__(
        self, seconds: float, most_bytes: int, resolve: url_guard.Resolve = url_guard.resolve
    ) -> None:
        """`seconds` and `most_bytes` are limits for all files together."""
        super().__init__(
            seconds,
            most_bytes,
            ocrd_errors.WorkspaceDownloadFailed,
            ocrd_errors.WorkspaceInvalid,
            resolve,
        )

    def save(self, url: str, path: Path, most: int | None = None) -> str:
        """Downloads a URL to a file and returns the final URL after redirects."""
        with self.open(url) as (final_url, chunks):
            size = 0
            with layout.storage_errors():
                path.parent.mkdir(parents=True, exist_ok=True)
                file = path.open("xb")
            with file:
                for chunk in chunks:
                    size += len(chunk)
                    if most is not None and size > most:
                        raise ocrd_errors.WorkspaceInvalid(
                            f"{url:.200} is larger than {most} bytes"
                        )
                    layout.check_space(len(chunk))
                    with layout.storage_errors():
                        file.write(chunk)
            return final_url


def fetch_files(
    fetcher: Fetcher, mets: Mets, url: str, path: Path, groups: Collection[str], most: int
) -> None:
    """Downloads the files of some groups, and updates their locations in `mets`.

    `url` is the URL of the METS file, `path` its local path, next to which the files are stored,
    and `most` the maximum number of files. Local paths are kept, because PAGE documents may
    reference them; files with a URL are saved as `<group>/<id>.<suffix>`. Files of other groups
    keep their URLs.
    """
    base = url_guard.url(url)
    urls = {path.name: url}
    for file in mets.files():
        file_url = _url(file, base)
        if file.group not in groups:
            mets.set_location(file.id, file_url)
            continue
        name = str(PurePosixPath(file.href)) if file.local else _name(file)
        if urls.setdefault(name, file_url) != file_url:
            raise ocrd_errors.WorkspaceInvalid(
                f"METS references two files that would both be stored as {name!r:.200}"
            )
        mets.set_location(file.id, name)
    if len(urls) > most:
        raise ocrd_errors.WorkspaceInvalid(f"METS references more than {most} files", limit=most)
    for above in {str(folder) for name in urls for folder in PurePosixPath(name).parents}:
        if above in urls:
            raise ocrd_errors.WorkspaceInvalid(
                f"METS uses {above!r:.200} as a file and as a folder"
            )
    del urls[path.name]
    _fetch_all(fetcher, [(url, path.parent / name) for name, url in urls.items()])


def _url(file: File, base: httpx.URL) -> str:
    """Returns the URL of a file. Raises ocrd_errors.WorkspaceInvalid for other locations."""
    wrong = path_error(file.href) if file.local else ""
    if file.local and not wrong and not is_url(file.href):
        # In a path, `#`, `?` and `%` are ordinary characters.
        return str(base.join("./").copy_with(query=None)) + quote(file.href, safe="/")
    if file.local or not is_http_url(file.href):
        wrong = wrong or "it is not an http(s) URL"
        raise ocrd_errors.WorkspaceInvalid(f"METS references {file.href!r:.200}: {wrong}")
    return file.href


def _name(file: File) -> str:
    """Returns the path for a file that has a URL."""
    if not is_group_name(file.id):
        raise ocrd_errors.WorkspaceInvalid(f"METS has a file with the invalid ID {file.id!r:.200}")
    suffix = _SUFFIXES.get(file.media_type, "")
    if "xml" in file.media_type:
        suffix = ".xml"
    elif not suffix:
        suffix = PurePosixPath(url_guard.url(file.href).path).suffix
        if not re.fullmatch(r"\.[A-Za-z0-9]{1,8}", suffix):
            suffix = ""
    return f"{file.group}/{file.id}{suffix}"


def _fetch_all(fetcher: Fetcher, downloads: list[tuple[str, Path]]) -> None:
    """Downloads files concurrently, and stops at the first failure."""
    failures: list[Exception] = []

    def save(url: str, path: Path) -> None:
        try:
            if not failures:
                fetcher.save(url, path)
        except Exception as error:
            failures.append(error)
            fetcher.give_up()

    with ThreadPoolExecutor(fetch.AT_ONCE) as pool:
        for row in downloads:
            pool.submit(save, *row)
    # Later failures are consequences of the first.
    if failures:
        raise failures[0]
