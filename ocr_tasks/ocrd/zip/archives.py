"""ZIP files of strangers, read a piece at a time: sizes are counted, and never believed."""

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

from ocr_tasks.errors import WorkspaceInvalid
from ocr_tasks.ocrd.mets.paths import fault
from ocr_tasks.ocrd.zip import bagit

#: More than this many bytes for each packed one, beyond some bytes, is a bomb.
_MOST_RATIO, _UNCOUNTED = 200, 10 << 20
_PIECE = 1 << 20
_SMALL = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """How many bytes and files a workspace may have, and how many bytes its METS file."""

    bytes: int
    files: int
    mets_bytes: int


@contextmanager
def _damage(name: str) -> Iterator[None]:
    """What goes wrong in the depths of a ZIP file is the file's fault."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise WorkspaceInvalid(f"{name} is not a ZIP file, or is damaged: {error}") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a seek to nowhere
            raise
        raise WorkspaceInvalid(f"{name} is not a ZIP file, or is damaged") from error


class Archive:
    """The files in a ZIP file, after a look at their names. `members` are they, by name."""

    def __init__(self, path: Path, limits: Limits) -> None:
        """Raises errors.WorkspaceInvalid for what is no ZIP file, and for names such as `../x`."""
        self.digests: dict[str, str] = {}
        self._limits = limits
        self._most = max(path.stat().st_size * _MOST_RATIO, _UNCOUNTED)
        self._inflated = 0
        with _damage("the file"):
            self._zip = zipfile.ZipFile(path)
        self.members = _members(self._zip.infolist(), limits)

    def close(self) -> None:
        """Closes the file."""
        self._zip.close()

    def pieces(self, name: str) -> Iterator[bytes]:
        """A file, a piece at a time, with its SHA-512 in `digests` in the end."""
        digest = hashlib.sha512()
        with _damage(name), self._zip.open(self.members[name]) as stream:
            while piece := stream.read(_PIECE):
                self._count(len(piece), name)
                digest.update(piece)
                yield piece
        self.digests[name] = digest.hexdigest()

    def _count(self, size: int, name: str) -> None:
        self._inflated += size
        if self._inflated > self._limits.bytes + _UNCOUNTED:  # room for tag files
            raise WorkspaceInvalid(
                f"{name}: the files have more than {self._limits.bytes} bytes in total"
            )
        if self._inflated > self._most:
            raise WorkspaceInvalid(f"{name} decompresses to more than {_MOST_RATIO} times its size")

    def text(self, name: str, most: int = _SMALL) -> str:
        """A small file."""
        if name not in self.members:
            raise WorkspaceInvalid(f"The top level has no {name}")
        content = bytearray()
        for piece in self.pieces(name):
            content += piece
            if len(content) > most:
                raise WorkspaceInvalid(f"{name} is larger than {most} bytes")
        try:
            return content.decode("utf-8-sig")
        except ValueError:
            raise WorkspaceInvalid(f"{name} is not UTF-8") from None


def _members(rows: list[zipfile.ZipInfo], limits: Limits) -> dict[str, zipfile.ZipInfo]:
    """The files by name."""
    if len(rows) > 2 * limits.files + 100:  # folders may have entries as well
        raise WorkspaceInvalid(
            f"The archive has more than {limits.files} files", limit=limits.files
        )
    found: dict[str, zipfile.ZipInfo] = {}
    folders: set[str] = set()
    alike: set[str] = set()
    for member in rows:
        _check_member(member)
        name = "/".join(part for part in member.filename.split("/") if part not in ("", "."))
        if member.is_dir() or not name:
            continue
        if len(found) >= limits.files:
            raise WorkspaceInvalid(
                f"The archive has more than {limits.files} files", limit=limits.files
            )
        # The same name to some file systems; each would be written over the other one.
        same = bagit.key(name).casefold()
        if same in alike:
            raise WorkspaceInvalid(f"{name!r:.200} occurs twice")
        alike.add(same)
        found[name] = member
        above = same.rpartition("/")[0]
        while above and above not in folders:
            folders.add(above)
            above = above.rpartition("/")[0]
    for name in alike & folders:
        raise WorkspaceInvalid(f"{name!r:.200} is both a file and a folder")
    return found


def _check_member(member: zipfile.ZipInfo) -> None:
    wrong = fault(member.orig_filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if not wrong and member.flag_bits & 0x2041:
        wrong = "it is encrypted"
    if not wrong and kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        wrong = "it is a link or a device"
    if not wrong and member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        wrong = "it is packed in another way than deflated"
    if wrong:
        raise WorkspaceInvalid(f"{member.orig_filename!r:.200}: {wrong}")
