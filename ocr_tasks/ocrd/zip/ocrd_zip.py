"""OCRD-ZIP: a workspace of OCR-D in a ZIP file, as a BagIt bag with checksums.

https://ocr-d.de/en/spec/ocrd_zip and RFC 8493 say what is in it. Unpacking is for a process with
limits (see `triage`), as everything in a bag was written by a stranger: sizes are counted while
inflating, and never believed. Each byte is read once, in either direction.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from ocr_tasks.errors import WorkspaceInvalid
from ocr_tasks.formats.zipping import Sink
from ocr_tasks.ocrd.mets.mets import Mets, mets_content
from ocr_tasks.ocrd.zip import bagit, outside
from ocr_tasks.ocrd.zip.archives import Archive, Limits

__all__ = ["MEDIA_TYPE", "PAGE_TYPE", "Found", "Limits", "look", "pack", "unpack"]

MEDIA_TYPE = "application/vnd.ocrd+zip"
PAGE_TYPE = "application/vnd.prima.page+xml"

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """A workspace that has been looked into. `mets` is a path below its folder."""

    mets: str
    identifier: str
    description: str
    pages: int


def unpack(archive: Path, folder: Path, limits: Limits) -> Found:
    """Checks a bag and makes its payload the folder `data` in `folder`.

    What was unpacked before something turned out to be wrong is left there.
    """
    with closing(Archive(archive, limits)) as bag, _faults():
        _check_tops(bag)
        bagit.check_declaration(bag.text(bagit.DECLARATION))
        info = bagit.read_info(bag.text(bagit.INFO))
        mets = f"data/{bagit.key(info.get('ocrd-mets', 'mets.xml'))}"
        if mets not in bag.members:
            raise WorkspaceInvalid(f"The METS file {mets!r:.200} does not exist")
        oxum = _extract(bag, folder, _payload_sums(bag), mets, limits)
        if info.get("payload-oxum", oxum) != oxum:
            raise WorkspaceInvalid(f"{bagit.INFO}: the Payload-Oxum is not {oxum}")
        _check_tags(bag)
    pages = look(folder, mets, limits, checked=_is_xml)
    return Found(mets, info["ocrd-identifier"], info.get("external-description", ""), pages)


def look(
    folder: Path,
    mets: str,
    limits: Limits,
    complete: bool = True,
    checked: Callable[[str], bool] = lambda name: False,
) -> int:
    """Checks a workspace in a folder: METS, and unless it is incomplete, what that names.

    Gives the number of its pages. The XML of pages is looked at unless it has been `checked`.
    """
    path = folder / mets
    found = Mets.read(path, limits.mets_bytes)
    if not complete:
        found.check_names()
        return len(found.pages)
    found.check(path.parent)
    for file in found.files():
        is_page = file.media_type == PAGE_TYPE or _is_xml(file.href)
        if file.local and is_page and not checked(file.href):
            with (path.parent / file.href).open("rb") as stream:
                content = stream.read(limits.mets_bytes + 1)
            _check_size(file.href, len(content), limits.mets_bytes)
            with _faults():
                outside.check(content, file.href)
    return len(found.pages)


def _is_xml(name: str) -> bool:
    return name.lower().endswith(".xml")


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise WorkspaceInvalid(str(error)) from error


def _extract(bag: Archive, folder: Path, sums: dict[str, str], mets: str, limits: Limits) -> str:
    """Writes the payload below a folder; gives its Payload-Oxum."""
    total = count = 0
    for name in bag.members:
        if name.startswith("data/"):
            # METS is looked at in the end, and may be larger.
            xml = limits.mets_bytes if _is_xml(name) and name != mets else 0
            total += _extract_one(bag, name, folder / name, xml)
            count += 1
            _check_size(f"the payload up to {name}", total, limits.bytes)
            if bag.digests[name] != sums[bagit.key(name)]:
                raise WorkspaceInvalid(f"{name} does not match its checksum in {bagit.MANIFEST}")
    return f"{total}.{count}"


def _extract_one(bag: Archive, name: str, path: Path, xml: int) -> int:
    """Writes a file; if it is XML, of no more than so many bytes, it is looked at on the way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size, kept = 0, bytearray()
    with path.open("xb") as file:
        for piece in bag.pieces(name):
            file.write(piece)
            size += len(piece)
            if xml:
                kept += piece
                _check_size(name, size, xml)
    outside.check(bytes(kept), name)
    return size


def _check_size(name: str, size: int, most: int) -> None:
    if size > most:
        raise WorkspaceInvalid(f"{name} is larger than {most} bytes", limit=most)


def _check_tops(bag: Archive) -> None:
    for name in bag.members:
        if not name.startswith("data/") and not bagit.is_tag_file(name):
            raise WorkspaceInvalid(f"{name!r:.200} is not allowed at the top level of an OCRD-ZIP")


def _payload_sums(bag: Archive) -> dict[str, str]:
    """The checksums of the payload, which must be those of the files that are there."""
    room = (1 << 20) + 1024 * len(bag.members)
    found = bagit.read_sums(bag.text(bagit.MANIFEST, room), bagit.MANIFEST)
    there = {bagit.key(name): name for name in bag.members if name.startswith("data/")}
    for name in there.keys() - found.keys():
        raise WorkspaceInvalid(f"{name!r:.200} is not in {bagit.MANIFEST}")
    for name in found.keys() - there.keys():
        raise WorkspaceInvalid(f"{bagit.MANIFEST} lists {name!r:.200}, which does not exist")
    return found


def _check_tags(bag: Archive) -> None:
    """Checks the tag files where there are checksums of them."""
    if bagit.TAG_MANIFEST not in bag.members:
        return
    tags = {bagit.key(name): name for name in bag.members if not name.startswith("data/")}
    sums = bagit.read_sums(bag.text(bagit.TAG_MANIFEST), bagit.TAG_MANIFEST)
    for name, digest in sums.items():
        if name not in tags:
            raise WorkspaceInvalid(
                f"{bagit.TAG_MANIFEST} lists {name!r:.200}, which does not exist"
            )
        if tags[name] not in bag.digests:
            for _ in bag.pieces(tags[name]):
                pass
        if bag.digests[tags[name]] != digest:
            raise WorkspaceInvalid(f"{name} does not match its checksum in {bagit.TAG_MANIFEST}")


# Packing

#: Endings of files that become smaller by packing; images have been packed already.
_PACKED = {".xml", ".txt", ".html", ".hocr", ".json", ".csv", ".tsv", ".svg", ".md", ".log"}


def pack(folder: Path, mets: str, identifier: str) -> Iterator[bytes]:
    """A workspace as OCRD-ZIP, a piece at a time: METS, and the files beside it that it names.

    Nothing is held in memory but METS. It is checked before the first piece is asked for.
    """
    content = mets_content(folder / mets)
    found = Mets.parse(content)
    found.check(folder)
    names = {str(PurePosixPath(file.href)) for file in found.files() if file.local}
    return _stream(folder, mets, content, sorted(names - {mets}), identifier)


def _stream(
    folder: Path, mets: str, content: bytes, names: list[str], identifier: str
) -> Iterator[bytes]:
    sink = Sink()
    # What was read and checked, even if a processor writes another one meanwhile.
    digests = {f"data/{mets}": hashlib.sha512(content).hexdigest()}
    total = len(content)
    with zipfile.ZipFile(sink, "w") as target:
        target.writestr(f"data/{mets}", content, zipfile.ZIP_DEFLATED)
        for name in names:
            for size in _add_file(target, folder / name, f"data/{name}", digests):
                total += size
                yield sink.taken()
        info = {
            "BagIt-Profile-Identifier": bagit.PROFILE,
            "Ocrd-Identifier": identifier,
            "Payload-Oxum": f"{total}.{len(digests)}",
            "Bagging-Date": datetime.now(UTC).date().isoformat(),
            "Bag-Software-Agent": "ocr-tasks",
        }
        if mets != "mets.xml":
            info["Ocrd-Mets"] = mets
        payload = list(digests)
        tags = {
            bagit.DECLARATION: bagit.declaration(),
            bagit.INFO: bagit.info(info),
            bagit.MANIFEST: bagit.sums(digests, payload),
        }
        for name, text in tags.items():
            target.writestr(name, text, zipfile.ZIP_DEFLATED)
            digests[name] = hashlib.sha512(text.encode()).hexdigest()
        target.writestr(bagit.TAG_MANIFEST, bagit.sums(digests, tags))
    yield sink.taken()


def _add_file(
    target: zipfile.ZipFile, path: Path, name: str, digests: dict[str, str]
) -> Iterator[int]:
    """Adds a file; gives the size of each piece."""
    digest = hashlib.sha512()
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with open(number, "rb", buffering=0) as file:  # noqa: PTH123  # it is open already
        member = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
        packed = path.suffix.lower() in _PACKED
        member.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
        member.external_attr = (stat.S_IFREG | 0o644) << 16
        # It may grow beyond what its header has room for.
        with target.open(member, "w", force_zip64=member.file_size >= 1 << 30) as stream:
            while piece := file.read(_PIECE):
                stream.write(piece)
                digest.update(piece)
                yield len(piece)
    digests[name] = digest.hexdigest()
    yield 0
