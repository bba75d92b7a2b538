"""Fetches a METS file from the web, and files that it names.

Addresses come from strangers, so they are asked as those of webhooks are (see `addresses`): each
host is vetted when it is connected to, also those that an answer sends on to.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import httpcore
import httpx

from ocr_tasks import addresses, errors, storage
from ocr_tasks.formats.mets import File, Mets, is_group_name
from ocr_tasks.formats.paths import fault, is_url, is_web_address

#: Files that are fetched at once, and answers that may send on to another address.
_AT_ONCE, _MOST_HOPS = 4, 5

#: Seconds to connect, and to wait for something to come.
_CONNECT, _SILENCE = 10.0, 30.0

_ENDINGS = {
    "image/tiff": ".tif",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/jp2": ".jp2",
    "application/pdf": ".pdf",
    "text/plain": ".txt",
    "text/html": ".html",
}


class Fetcher:
    """Fetches within limits that hold for everything together. Close it in the end."""

    def __init__(
        self, seconds: float, most_bytes: int, resolve: addresses.Resolve = addresses.resolve
    ) -> None:
        """`most_bytes` is for all files."""
        backend = addresses.VettedBackend(seconds, resolve)
        self._pool = httpcore.ConnectionPool(network_backend=backend, max_connections=_AT_ONCE)
        self._left = self._most = most_bytes
        self._lock = threading.Lock()
        self._given_up = threading.Event()

    def close(self) -> None:
        """Closes the connections."""
        self._pool.close()

    def give_up(self) -> None:
        """Ends what is being fetched."""
        self._given_up.set()

    def save(self, url: str, path: Path, most: int | None = None) -> str:
        """Writes what is at an address to a file; gives the address that it came from in the end.

        Raises:
            errors.MetsNotFetched: saying why.
            errors.WorkspaceInvalid: if that is more than `most` bytes, or than all may be.
            errors.StorageFull, errors.StorageUnavailable
        """
        asked = url
        for _ in range(_MOST_HOPS + 1):
            with _failures(asked):
                parsed = addresses.parse(asked)
                with self._get(parsed) as answer:
                    onward = _onward(parsed, answer)
                    if onward is None:
                        self._write(answer, path, url, most)
                        return asked
            asked = onward
        raise errors.MetsNotFetched(f"{url:.200} sends on more than {_MOST_HOPS} times")

    def _get(self, url: httpx.URL) -> Any:
        # Packed answers would have to be unpacked within limits as well.
        headers = {"User-Agent": "ocr-tasks", "Accept-Encoding": "identity"}
        timeouts = {"connect": _CONNECT, "read": _SILENCE, "write": _SILENCE, "pool": _SILENCE}
        return self._pool.stream(
            "GET",
            httpcore.URL(str(url)),
            headers=list(headers.items()),
            extensions={"timeout": timeouts},
        )

    def _write(self, answer: httpcore.Response, path: Path, url: str, most: int | None) -> None:
        size = 0
        with storage.failures():
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("xb")
        with file:
            for piece in answer.iter_stream():
                size += len(piece)
                if most is not None and size > most:
                    raise errors.WorkspaceInvalid(f"{url:.200} has more than {most} bytes")
                self._count(len(piece))
                with storage.failures():
                    file.write(piece)

    def _count(self, size: int) -> None:
        if self._given_up.is_set():
            raise errors.MetsNotFetched("another file could not be fetched")
        with self._lock:
            self._left -= size
            if self._left < 0:
                raise errors.WorkspaceInvalid(f"the files have more than {self._most} bytes")


@contextmanager
def _failures(url: str) -> Iterator[None]:
    """Says what goes wrong, in our words."""
    reason = ""
    try:
        yield
    except (addresses.Refused, errors.CallbackRefused) as refused:
        reason = str(refused)
    except (httpcore.TimeoutException, TimeoutError):
        reason = "no answer in time"
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError):
        reason = "the connection failed"
    if reason:
        raise errors.MetsNotFetched(f"{url:.200}: {reason}")


def _onward(url: httpx.URL, answer: httpcore.Response) -> str | None:
    """The address that an answer sends on to; None if it is what was asked for.

    Raises:
        errors.MetsNotFetched: if it is neither.
    """
    headers = {name.lower(): value.decode("latin-1") for name, value in answer.headers}
    if answer.status in (301, 302, 303, 307, 308) and b"location" in headers:
        try:
            return str(url.join(headers[b"location"]).copy_with(fragment=None))
        except (httpx.InvalidURL, ValueError):
            raise errors.MetsNotFetched(f"{url!s:.200} sends on to no address") from None
    if answer.status != 200:
        raise errors.MetsNotFetched(f"{url!s:.200} answered {answer.status}")
    if headers.get(b"content-encoding", "identity") != "identity":
        raise errors.MetsNotFetched(f"{url!s:.200} answered packed")
    return None


def fill(
    fetcher: Fetcher, mets: Mets, url: str, path: Path, groups: Collection[str], most: int
) -> None:
    """Fetches the files of some groups beside a METS file, and says in `mets` where they are.

    `url` is where METS came from, `path` where it is now. Paths stay as they are, as the XML of
    pages may name them; what has an address becomes `<group>/<id>.<ending>`. Files of other groups
    keep their addresses.

    Raises:
        errors.WorkspaceInvalid: if a file is neither on the web nor beside METS.
        errors.MetsNotFetched, errors.StorageFull, errors.StorageUnavailable
    """
    base = httpx.URL(url)
    wanted = {path.name: url}
    for file in mets.files():
        address = _address(file, base)
        if file.group not in groups:
            mets.point(file.id, address)
            continue
        name = str(PurePosixPath(file.href)) if file.local else _name(file)
        if wanted.setdefault(name, address) != address:
            raise errors.WorkspaceInvalid(f"METS names two files that would be {name!r:.200}")
        mets.point(file.id, name)
    if len(wanted) > most:
        raise errors.WorkspaceInvalid(f"METS names more than {most} files", limit=most)
    for above in {str(folder) for name in wanted for folder in PurePosixPath(name).parents}:
        if above in wanted:
            raise errors.WorkspaceInvalid(f"METS has {above!r:.200} as a file and a folder")
    del wanted[path.name]
    _all(fetcher, [(address, path.parent / name) for name, address in wanted.items()])


def _address(file: File, base: httpx.URL) -> str:
    """Where a file is on the web."""
    wrong = fault(file.href) if file.local else ""
    if file.local and not wrong and not is_url(file.href):
        # A path is no address yet: `#`, `?` and `%` are letters of it.
        return str(base.join("./").copy_with(query=None)) + quote(file.href, safe="/")
    if file.local or not is_web_address(file.href):
        wrong = wrong or "it is not on the web"
        raise errors.WorkspaceInvalid(f"METS names {file.href!r:.200}: {wrong}")
    return file.href


def _name(file: File) -> str:
    if not is_group_name(file.id):
        raise errors.WorkspaceInvalid(f"METS has a file with the ID {file.id!r:.200}")
    ending = _ENDINGS.get(file.media_type, "")
    if "xml" in file.media_type:
        ending = ".xml"
    elif not ending:
        suffix = PurePosixPath(httpx.URL(file.href).path).suffix
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

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for row in wanted:
            pool.submit(save, *row)
    # Those after the first one failed because of it.
    if failures:
        raise failures[0]
