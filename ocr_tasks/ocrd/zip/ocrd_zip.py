"""OCRD-ZIP: an OCR-D workspace in a ZIP file, packed as a BagIt bag with checksums.

The format is specified in https://ocr-d.de/en/spec/ocrd_zip and RFC 8493. Bags are untrusted: they
are unpacked in a sandboxed process (`zip.inspect`), and sizes are counted while inflating. Packing
and unpacking read each byte once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from ocr_tasks import errors
from ocr_tasks.formats.zipping import Sink
from ocr_tasks.ocrd.errors import WorkspaceInvalid
from ocr_tasks.ocrd.mets.mets import Mets, mets_content
from ocr_tasks.ocrd.zip import bagit, outside
from ocr_tasks.ocrd.zip.archives import Archive, Limits

__all__ = ["MEDIA_TYPE", "PAGE_TYPE", "CheckedWorkspace", "Limits", "check", "pack", "unpack"]

MEDIA_TYPE = "application/vnd.ocrd+zip"
PAGE_TYPE = "application/vnd.prima.page+xml"

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class CheckedWorkspace:
    """A workspace that has been checked. `mets` is a path relative to its folder."""

    mets: str
    identifier: str
    description: str
    pages: int


def unpack(archive: Path, folder: Path, limits: Limits) -> CheckedWorkspace:
    """Checks a bag and extracts its payload to `folder/data`.

    If the check fails, the files that have been extracted remain there. Raises
    WorkspaceInvalid.
    """
    with closing(Archive(archive, limits)) as bag, _as_workspace_errors():
        _check_top_level(bag)
        bagit.check_declaration(bag.text(bagit.DECLARATION))
        info = bagit.read_info(bag.text(bagit.INFO))
        mets = f"data/{bagit.normalize(info.get('ocrd-mets', 'mets.xml'))}"
        if mets not in bag.members:
            raise WorkspaceInvalid(f"The METS file {mets!r:.200} does not exist")
        oxum = _extract(bag, folder, _payload_digests(bag), mets, limits)
        if info.get("payload-oxum", oxum) != oxum:
            raise WorkspaceInvalid(f"{bagit.INFO}: the Payload-Oxum is not {oxum}")
        _check_tag_files(bag)
    pages = check(folder, mets, limits, is_checked=_is_xml)
    return CheckedWorkspace(
        mets, info["ocrd-identifier"], info.get("external-description", ""), pages
    )


def check(
    folder: Path,
    mets: str,
    limits: Limits,
    complete: bool = True,
    is_checked: Callable[[str], bool] = lambda name: False,
) -> int:
    """Checks the METS file of a workspace in a folder and, if `complete`, the files it references.

    Returns the number of pages. PAGE documents are checked too, unless `is_checked` returns true
    for their path.
    """
    path = folder / mets
    found = Mets.read(path, limits.mets_bytes)
    if not complete:
        found.check_names()
        return len(found.pages)
    found.check(path.parent)
    for file in found.files():
        is_page = file.media_type == PAGE_TYPE or _is_xml(file.href)
        if file.local and is_page and not is_checked(file.href):
            with (path.parent / file.href).open("rb") as stream:
                content = stream.read(limits.mets_bytes + 1)
            _check_size(file.href, len(content), limits.mets_bytes)
            with _as_workspace_errors():
                outside.check(content, file.href)
    return len(found.pages)


def _is_xml(name: str) -> bool:
    return name.lower().endswith(".xml")


@contextmanager
def _as_workspace_errors() -> Iterator[None]:
    """Raises ValueErrors as WorkspaceInvalid."""
    try:
        yield
    except ValueError as error:
        raise WorkspaceInvalid(str(error)) from error


def _extract(bag: Archive, folder: Path, sums: dict[str, str], mets: str, limits: Limits) -> str:
    """Extracts the payload below a folder, and returns its Payload-Oxum."""
    total = count = 0
    for name in bag.members:
        if name.startswith("data/"):
            # The METS file is checked later, and may be larger.
            xml = limits.mets_bytes if _is_xml(name) and name != mets else 0
            total += _extract_one(bag, name, folder / name, xml, limits.reserve)
            count += 1
            _check_size(f"the payload up to {name}", total, limits.bytes)
            if bag.digests[name] != sums[bagit.normalize(name)]:
                raise WorkspaceInvalid(f"{name} does not match its checksum in {bagit.MANIFEST}")
    return f"{total}.{count}"


def _extract_one(bag: Archive, name: str, path: Path, xml: int, reserve: int) -> int:
    """Extracts a file and returns its size in bytes.

    If `xml` is not 0, the file is an XML file of at most that many bytes, and is checked. Raises
    errors.StorageFull if less than `reserve` bytes would stay free on the disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    size, kept = 0, bytearray()
    with path.open("xb") as file:
        for chunk in bag.chunks(name):
            if shutil.disk_usage(path.parent).free - len(chunk) < reserve:
                raise errors.StorageFull()
            file.write(chunk)
            size += len(chunk)
            if xml:
                kept += chunk
                _check_size(name, size, xml)
    outside.check(bytes(kept), name)
    return size


def _check_size(name: str, size: int, most: int) -> None:
    if size > most:
        raise WorkspaceInvalid(f"{name} is larger than {most} bytes", limit=most)


def _check_top_level(bag: Archive) -> None:
    for name in bag.members:
        if not name.startswith("data/") and not bagit.is_tag_file(name):
            raise WorkspaceInvalid(f"{name!r:.200} is not allowed at the top level of an OCRD-ZIP")


def _payload_digests(bag: Archive) -> dict[str, str]:
    """Returns the digests of the payload; the manifest must list exactly its files."""
    room = (1 << 20) + 1024 * len(bag.members)
    found = bagit.read_manifest(bag.text(bagit.MANIFEST, room), bagit.MANIFEST)
    there = {bagit.normalize(name): name for name in bag.members if name.startswith("data/")}
    for name in there.keys() - found.keys():
        raise WorkspaceInvalid(f"{name!r:.200} is not in {bagit.MANIFEST}")
    for name in found.keys() - there.keys():
        raise WorkspaceInvalid(f"{bagit.MANIFEST} lists {name!r:.200}, which does not exist")
    return found


def _check_tag_files(bag: Archive) -> None:
    """Checks the digests of the tag files, if there is a tag manifest."""
    if bagit.TAG_MANIFEST not in bag.members:
        return
    tags = {bagit.normalize(name): name for name in bag.members if not name.startswith("data/")}
    sums = bagit.read_manifest(bag.text(bagit.TAG_MANIFEST), bagit.TAG_MANIFEST)
    for name, digest in sums.items():
        if name not in tags:
            raise WorkspaceInvalid(
                f"{bagit.TAG_MANIFEST} lists {name!r:.200}, which does not exist"
            )
        if tags[name] not in bag.digests:
            for _ in bag.chunks(tags[name]):
                pass
        if bag.digests[tags[name]] != digest:
            raise WorkspaceInvalid(f"{name} does not match its checksum in {bagit.TAG_MANIFEST}")


# Packing

#: Suffixes of files that are worth compressing; images are compressed already.
_COMPRESSIBLE = {".xml", ".txt", ".html", ".hocr", ".json", ".csv", ".tsv", ".svg", ".md", ".log"}


def pack(folder: Path, mets: str, identifier: str) -> Iterator[bytes]:
    """Packs the METS file and the local files that it references; yields the OCRD-ZIP in chunks.

    Only the METS file is held in memory. The workspace is checked before this returns.
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
    # The METS file that was checked, even if a processor has replaced it since.
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
            bagit.MANIFEST: bagit.manifest(digests, payload),
        }
        for name, text in tags.items():
            target.writestr(name, text, zipfile.ZIP_DEFLATED)
            digests[name] = hashlib.sha512(text.encode()).hexdigest()
        target.writestr(bagit.TAG_MANIFEST, bagit.manifest(digests, tags))
    yield sink.taken()


def _add_file(
    target: zipfile.ZipFile, path: Path, name: str, digests: dict[str, str]
) -> Iterator[int]:
    """Adds a file; yields the size of each chunk."""
    digest = hashlib.sha512()
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with open(number, "rb", buffering=0) as file:  # noqa: PTH123  # a file descriptor
        member = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
        packed = path.suffix.lower() in _COMPRESSIBLE
        member.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
        member.external_attr = (stat.S_IFREG | 0o644) << 16
        # The file may grow: ZIP64 is needed above 2 GiB.
        with target.open(member, "w", force_zip64=member.file_size >= 1 << 30) as stream:
            while chunk := file.read(_CHUNK_BYTES):
                stream.write(chunk)
                digest.update(chunk)
                yield len(chunk)
    digests[name] = digest.hexdigest()
    yield 0
