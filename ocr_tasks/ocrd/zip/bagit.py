"""The tag files of a BagIt bag (RFC 8493) with OCR-D's profile: parsed, checked and written.

Errors are ValueErrors whose text names the file.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

DECLARATION, INFO = "bagit.txt", "bag-info.txt"
MANIFEST, TAG_MANIFEST = "manifest-sha512.txt", "tagmanifest-sha512.txt"

#: The URL that `ocrd zip validate` requires. The specification uses another one.
PROFILE = "https://ocr-d.github.io/bagit-profile.json"
_PROFILES = {PROFILE, "https://ocr-d.de/en/spec/bagit-profile.json"}

_REQUIRED = {"bagit-version": "1.0", "tag-file-character-encoding": "utf-8"}
_TAG_FILES = re.compile(
    r"bagit\.txt|bag-info\.txt|(tag)?manifest-[a-z0-9]{1,10}\.txt|README\.md|Makefile|build\.sh"
    r"|sources\.csv|metadata/[^/]+\.(xml|txt)"
)
_MANIFEST_LINE = re.compile(r"([0-9a-fA-F]{128})[ \t]+\*?(.+)")


def is_tag_file(name: str) -> bool:
    """Returns whether the profile allows a file with this name outside of `data`."""
    return _TAG_FILES.fullmatch(name) is not None


def normalize(name: str) -> str:
    """Returns a canonical form of a path: without `.` and empty parts, in Unicode form NFC."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return unicodedata.normalize("NFC", "/".join(parts))


def _fields(text: str, name: str) -> dict[str, str]:
    """Returns values by label in lower case; if a label is repeated, the first value."""
    rows: list[tuple[str, str]] = []
    for line in filter(str.strip, text.splitlines()):
        label, colon, value = line.partition(":")
        if line[0] in " \t" and rows:
            rows[-1] = rows[-1][0], f"{rows[-1][1]} {line.strip()}"
        elif colon:
            rows.append((label.strip().lower(), value.strip()))
        else:
            raise ValueError(f"a line of {name} has no colon: {line!r:.100}")
    return dict(reversed(rows))


def check_declaration(text: str) -> None:
    """Raises ValueError unless the text declares BagIt 1.0 in UTF-8."""
    found = _fields(text, DECLARATION)
    for label, required in _REQUIRED.items():
        if found.get(label, "").lower() != required:
            raise ValueError(f"{DECLARATION} must contain `{label}: {required}`")


def read_info(text: str) -> dict[str, str]:
    """Returns the fields of bag-info.txt by label in lower case."""
    found = _fields(text, INFO)
    if not found.get("ocrd-identifier"):
        raise ValueError(f"{INFO} has no Ocrd-Identifier")
    profile = found.get("bagit-profile-identifier", PROFILE)
    if profile not in _PROFILES:
        raise ValueError(f"{INFO} has a profile that is not OCR-D's: {profile!r:.100}")
    return found


def read_manifest(text: str, name: str) -> dict[str, str]:
    """Returns the digests in a manifest by normalized path."""
    sums: dict[str, str] = {}
    for line in filter(str.strip, text.splitlines()):
        found = _MANIFEST_LINE.fullmatch(line.strip())
        if found is None:
            raise ValueError(f"a line of {name} is not a checksum: {line!r:.100}")
        path, digest = normalize(found[2]), found[1].lower()
        if sums.setdefault(path, digest) != digest:
            raise ValueError(f"{name} has two checksums for {path!r:.200}")
    return sums


def declaration() -> str:
    """Returns the text of bagit.txt."""
    return "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"


def info(fields: Mapping[str, str]) -> str:
    """Returns the text of bag-info.txt, with each value on one line."""
    return "".join(f"{name}: {' '.join(value.split())}\n" for name, value in fields.items())


def manifest(digests: Mapping[str, str], names: Iterable[str]) -> str:
    """Returns the text of a manifest of the files `names`."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(names))
