"""Untrusted ZIP files, read in chunks.

Sizes are counted while inflating, not taken from headers.
"""

from __future__ import annotations

import errno
import hashlib
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ocr_tasks.ocrd.errors import WorkspaceInvalid
from ocr_tasks.ocrd.mets.paths import path_error
from ocr_tasks.ocrd.zip import bagit

#: A file may inflate to `_MOST_RATIO` times its compressed size. What all files have beyond that is
#: at most `_MOST_EXCESS` bytes, e.g. two uncompressed images of blank pages, or as much as all
#: files have within it. Other archives are rejected as bombs. This allows at most 400 times the
#: size of the archive, even if the sizes in headers are false.
_MOST_RATIO, _MOST_EXCESS = 200, 64 << 20

#: Maximum bytes of the tag files.
_TAG_BYTES = 10 << 20
_CHUNK_BYTES = 1 << 20
_MAX_TEXT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """The maximum bytes and files of a workspace, and the maximum bytes of its METS file.

    `reserve` is the number of bytes that must stay free on the disk.
    """

    bytes: int
    files: int
    mets_bytes: int
    reserve: int = 0


@contextmanager
def _zip_errors(name: str) -> Iterator[None]:
    """Raises exceptions from parsing a ZIP file as WorkspaceInvalid."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise WorkspaceInvalid(f"{name} is not a ZIP file, or is damaged: {error}") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a seek to an invalid offset
            raise
        raise WorkspaceInvalid(f"{name} is not a ZIP file, or is damaged") from error


class Archive:
    """A ZIP file whose entries have been checked.

    `members` are the files by normalized name. `digests` are the SHA-512 digests of the files that
    have been read.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        """Raises WorkspaceInvalid for invalid ZIP files, and for names such as `../x`."""
        self.digests: dict[str, str] = {}
        self._limits = limits
        self._inflated = self._excess = 0
        with _zip_errors("the file"):
            self._zip = zipfile.ZipFile(path)
        rows = self._zip.infolist()
        self.members = _members(rows, limits)
        within = sum(min(row.file_size, row.compress_size * _MOST_RATIO) for row in rows)
        self._most_excess = max(_MOST_EXCESS, within)
        # Entries that share their data would each count as little compressed.
        if sum(row.compress_size for row in rows) > path.stat().st_size:
            raise WorkspaceInvalid("The ZIP file is damaged: entries overlap")

    def close(self) -> None:
        """Closes the file."""
        self._zip.close()

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yields the content of a file in chunks; then adds its digest to `digests`."""
        digest = hashlib.sha512()
        size, most = 0, self.members[name].compress_size * _MOST_RATIO
        with _zip_errors(name), self._zip.open(self.members[name]) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                self._check_total(name, len(chunk))
                before = max(size, most)
                size += len(chunk)
                self._check_excess(name, size - before)
                digest.update(chunk)
                yield chunk
        self.digests[name] = digest.hexdigest()

    def _check_total(self, name: str, size: int) -> None:
        self._inflated += size
        if self._inflated > self._limits.bytes + _TAG_BYTES:
            raise WorkspaceInvalid(
                f"{name}: the files have more than {self._limits.bytes} bytes in total"
            )

    def _check_excess(self, name: str, excess: int) -> None:
        self._excess += max(0, excess)
        if self._excess > self._most_excess:
            raise WorkspaceInvalid(f"{name} decompresses to more than {_MOST_RATIO} times its size")

    def text(self, name: str, most: int = _MAX_TEXT_BYTES) -> str:
        """Returns the text of a file of at most `most` bytes."""
        if name not in self.members:
            raise WorkspaceInvalid(f"The top level has no {name}")
        content = bytearray()
        for chunk in self.chunks(name):
            content += chunk
            if len(content) > most:
                raise WorkspaceInvalid(f"{name} is larger than {most} bytes")
        try:
            return content.decode("utf-8-sig")
        except ValueError:
            raise WorkspaceInvalid(f"{name} is not UTF-8") from None


def _members(rows: list[zipfile.ZipInfo], limits: Limits) -> dict[str, zipfile.ZipInfo]:
    """Returns the files by name, after checking the names."""
    if len(rows) > 2 * limits.files + 100:  # folders may have entries as well
        raise WorkspaceInvalid(
            f"The archive has more than {limits.files} files", limit=limits.files
        )
    found: dict[str, zipfile.ZipInfo] = {}
    folders: set[str] = set()
    seen: set[str] = set()
    for member in rows:
        _check_member(member)
        name = "/".join(part for part in member.filename.split("/") if part not in ("", "."))
        if member.is_dir() or not name:
            continue
        if len(found) >= limits.files:
            raise WorkspaceInvalid(
                f"The archive has more than {limits.files} files", limit=limits.files
            )
        # Some file systems treat these names as equal; one file would overwrite the other.
        same = bagit.normalize(name).casefold()
        if same in seen:
            raise WorkspaceInvalid(f"{name!r:.200} occurs twice")
        seen.add(same)
        found[name] = member
        above = same.rpartition("/")[0]
        while above and above not in folders:
            folders.add(above)
            above = above.rpartition("/")[0]
    for name in seen & folders:
        raise WorkspaceInvalid(f"{name!r:.200} is both a file and a folder")
    return found


def _check_member(member: zipfile.ZipInfo) -> None:
    wrong = path_error(member.orig_filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if not wrong and member.flag_bits & 0x2041:
        wrong = "it is encrypted"
    if not wrong and kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        wrong = "links and devices are not allowed"
    if not wrong and member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        wrong = "the compression must be deflate or none"
    if wrong:
        raise WorkspaceInvalid(f"{member.orig_filename!r:.200}: {wrong}")
