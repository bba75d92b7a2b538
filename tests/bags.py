"""OCRD-ZIP bags, valid ones and variants, built independently of the code under test."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import DATA

KANT = DATA / "kant"

BAGIT = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8"
GITHUB_PROFILE = "https://ocr-d.github.io/bagit-profile.json"
TEXT_PROFILE = "https://ocr-d.de/en/spec/bagit-profile.json"


def mets(*files: str, pages: str = "", more: str = "") -> str:
    """Returns a METS file with a page; each file is `<group>/<name>`, or a URL for group `WEB`."""
    groups: dict[str, list[str]] = {}
    for number, href in enumerate(files):
        group = "WEB" if ":" in href else href.strip("/").split("/")[0].replace("..", "UP")
        kind = 'LOCTYPE="URL"' if ":" in href else 'LOCTYPE="OTHER" OTHERLOCTYPE="FILE"'
        groups.setdefault(group, []).append(
            f'<mets:file ID="F{number}" MIMETYPE="image/tiff"><mets:FLocat {kind} '
            f'xlink:href="{href}"/></mets:file>'
        )
    section = "".join(
        f'<mets:fileGrp USE="{group}">{"".join(rows)}</mets:fileGrp>'
        for group, rows in groups.items()
    )
    pointers = "".join(f'<mets:fptr FILEID="F{n}"/>' for n in range(len(files)))
    return (
        f'{more}<mets:mets xmlns:mets="http://www.loc.gov/METS/" '
        'xmlns:xlink="http://www.w3.org/1999/xlink">'
        f"<mets:fileSec>{section}</mets:fileSec>"
        '<mets:structMap TYPE="PHYSICAL"><mets:div TYPE="physSequence">'
        f'<mets:div TYPE="page" ID="P1">{pointers}</mets:div>{pages}'
        "</mets:div></mets:structMap></mets:mets>"
    )


@dataclass
class Builder:
    """A bag to be built. `payload` is below `data/`; None omits a tag file."""

    payload: dict[str, bytes] = field(
        default_factory=lambda: {"mets.xml": mets("IMG/a.tif").encode(), "IMG/a.tif": b"II*\0image"}
    )
    bagit: str | None = BAGIT
    info: dict[str, str] | None = field(
        default_factory=lambda: {
            "BagIt-Profile-Identifier": GITHUB_PROFILE,
            "Ocrd-Identifier": "a:work",
        }
    )
    manifest: bool = True
    tag_manifest: bool = True
    more_tags: dict[str, str] = field(default_factory=dict)
    #: Changes the manifest before it is written.
    forge: Callable[[str], str] = str
    compression: int = zipfile.ZIP_DEFLATED
    #: Members that are added unchanged at the end.
    extra: list[tuple[zipfile.ZipInfo | str, bytes]] = field(default_factory=list)

    def with_mets(self, text: str | bytes) -> Builder:
        self.payload["mets.xml"] = text.encode() if isinstance(text, str) else text
        return self

    def build(self) -> bytes:
        """Builds the ZIP file."""
        tags: dict[str, str | None] = {"bagit.txt": self.bagit, "bag-info.txt": None}
        if self.info is not None:
            tags["bag-info.txt"] = "".join(f"{k}: {v}\n" for k, v in self.info.items())
        if self.manifest:
            rows = (f"{_sum(c)}  data/{name}\n" for name, c in sorted(self.payload.items()))
            tags["manifest-sha512.txt"] = self.forge("".join(rows))
        tags |= self.more_tags
        there = {name: text.encode() for name, text in tags.items() if text is not None}
        if self.tag_manifest:
            rows = (f"{_sum(c)}  {name}\n" for name, c in there.items())
            there["tagmanifest-sha512.txt"] = "".join(rows).encode()
        there |= {f"data/{name}": content for name, content in self.payload.items()}
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", self.compression) as target:
            for member, content in [*there.items(), *self.extra]:
                target.writestr(member, content)
        return packed.getvalue()


def _sum(content: bytes) -> str:
    return hashlib.sha512(content).hexdigest()


def kant() -> Builder:
    """Returns a bag of the two pages of the real work in `data/kant`."""
    files = {str(path.relative_to(KANT)): path for path in KANT.rglob("*") if path.is_file()}
    return Builder({name: path.read_bytes() for name, path in files.items()})


def contents(folder: Path) -> dict[str, bytes]:
    """Returns all files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
