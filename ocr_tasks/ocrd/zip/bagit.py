"""The tag files of a BagIt bag (RFC 8493) with OCR-D's profile: read, checked and written.

What is wrong with them is told by ValueError, with the name of the file.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

DECLARATION, INFO = "bagit.txt", "bag-info.txt"
MANIFEST, TAG_MANIFEST = "manifest-sha512.txt", "tagmanifest-sha512.txt"

#: The one that `ocrd zip validate` wants, and the one that the specification names.
PROFILE = "https://ocr-d.github.io/bagit-profile.json"
_PROFILES = {PROFILE, "https://ocr-d.de/en/spec/bagit-profile.json"}

_DECLARED = {"bagit-version": "1.0", "tag-file-character-encoding": "utf-8"}
_TAG_FILES = re.compile(
    r"bagit\.txt|bag-info\.txt|(tag)?manifest-[a-z0-9]{1,10}\.txt|README\.md|Makefile|build\.sh"
    r"|sources\.csv|metadata/[^/]+\.(xml|txt)"
)
_SUM = re.compile(r"([0-9a-fA-F]{128})[ \t]+\*?(.+)")


def is_tag_file(name: str) -> bool:
    """Whether the profile has such a file outside of `data`."""
    return _TAG_FILES.fullmatch(name) is not None


def key(name: str) -> str:
    """The same for all ways to write a path: with or without `./`, letters put together or not."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return unicodedata.normalize("NFC", "/".join(parts))


def _fields(text: str, name: str) -> dict[str, str]:
    """Values by label, in small letters; of several with one label the first counts."""
    rows: list[tuple[str, str]] = []
    for line in filter(str.strip, text.splitlines()):
        label, colon, value = line.partition(":")
        if line[0] in " \t" and rows:
            rows[-1] = rows[-1][0], f"{rows[-1][1]} {line.strip()}"
        elif colon:
            rows.append((label.strip().lower(), value.strip()))
        else:
            raise ValueError(f"{name} has a line without a colon: {line!r:.100}")
    return dict(reversed(rows))


def check_declaration(text: str) -> None:
    """Makes sure that this is BagIt 1.0."""
    found = _fields(text, DECLARATION)
    for label, wanted in _DECLARED.items():
        if found.get(label, "").lower() != wanted:
            raise ValueError(f"{DECLARATION} does not say {label} {wanted}")


def read_info(text: str) -> dict[str, str]:
    """What bag-info.txt says, by label in small letters."""
    found = _fields(text, INFO)
    if not found.get("ocrd-identifier"):
        raise ValueError(f"{INFO} has no Ocrd-Identifier")
    profile = found.get("bagit-profile-identifier", PROFILE)
    if profile not in _PROFILES:
        raise ValueError(f"{INFO} names another profile than OCR-D's: {profile!r:.100}")
    return found


def read_sums(text: str, name: str) -> dict[str, str]:
    """The checksums that a manifest says, by `key`."""
    sums: dict[str, str] = {}
    for line in filter(str.strip, text.splitlines()):
        found = _SUM.fullmatch(line.strip())
        if found is None:
            raise ValueError(f"{name} has a line that is no checksum: {line!r:.100}")
        path, digest = key(found[2]), found[1].lower()
        if sums.setdefault(path, digest) != digest:
            raise ValueError(f"{name} has two checksums of {path!r:.200}")
    return sums


def declaration() -> str:
    """The text of bagit.txt."""
    return "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"


def info(fields: Mapping[str, str]) -> str:
    """The text of bag-info.txt, each value on one line."""
    return "".join(f"{name}: {' '.join(value.split())}\n" for name, value in fields.items())


def sums(digests: Mapping[str, str], names: Iterable[str]) -> str:
    """The text of a manifest for such files."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(names))
