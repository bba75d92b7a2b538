"""Where things are in the tree of a METS file. Nothing here is quadratic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any, cast

from lxml import etree

from ocr_tasks import settings
from ocr_tasks.errors import WorkspaceInvalid
from ocr_tasks.ocrd.mets.page_ids import ATTRIBUTES
from ocr_tasks.ocrd.mets.paths import is_url

METS = "{http://www.loc.gov/METS/}"
XLINK = "{http://www.w3.org/1999/xlink}"
OCRD = "https://ocr-d.de"

#: Files that no list of files would show.
MISPLACED = f"{METS}file/{METS}file", f"{METS}fileSec/{METS}file"

#: What comes after file groups, and after the order of pages.
_AFTER_FILES = ("structMap", "structLink", "behaviorSec")


def parent(element: etree._Element) -> etree._Element:
    """The element that this one is in."""
    found = element.getparent()
    assert found is not None  # noqa: S101  # only asked for what is in something
    return found


def groups(root: etree._Element) -> dict[str, etree._Element]:
    """The file groups by name; of two with one name the first."""
    found: dict[str, etree._Element] = {}
    for section in root.iterchildren(f"{METS}fileSec"):
        for group in section.iter(f"{METS}fileGrp"):
            found.setdefault(group.get("USE", ""), group)
    return found


def files(root: etree._Element) -> Iterator[tuple[str, etree._Element]]:
    """Each file with the name of its group."""
    for section in root.iterchildren(f"{METS}fileSec"):
        for group in section.iter(f"{METS}fileGrp"):
            for file in group.iterchildren(f"{METS}file"):
                yield group.get("USE", ""), file


def location(file: etree._Element) -> tuple[str, bool]:
    """Where a file is, and whether that is beside METS: that counts more than an address."""
    found = "", False
    for locat in file.iterchildren(f"{METS}FLocat"):
        local = is_local(locat)
        if local or not found[0]:
            found = locat.get(f"{XLINK}href", ""), local
        if local:
            break
    return found


def is_local(locat: etree._Element) -> bool:
    """Whether an FLocat names a path rather than an address."""
    said = (locat.get("LOCTYPE"), locat.get("OTHERLOCTYPE")) == ("OTHER", "FILE")
    return said or not is_url(locat.get(f"{XLINK}href", ""))


def _sequences(root: etree._Element) -> Iterator[etree._Element]:
    for structure in root.iterchildren(f"{METS}structMap"):
        if structure.get("TYPE") == "PHYSICAL":
            for div in structure.iterchildren(f"{METS}div"):
                if div.get("TYPE") == "physSequence":
                    yield div


def _page_divs(root: etree._Element) -> Iterator[etree._Element]:
    for sequence in _sequences(root):
        for div in sequence.iterchildren(f"{METS}div"):
            if div.get("TYPE") == "page":
                yield div


def page_names(root: etree._Element) -> list[str]:
    """The ids of all pages, also such as cannot be used."""
    return [div.get("ID", "") for div in _page_divs(root)]


def doubles(names: Iterable[str]) -> list[str]:
    """Names that are there more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def page_divs(root: etree._Element) -> dict[str, etree._Element]:
    """The pages by id."""
    return {div.get("ID", ""): div for div in _page_divs(root)}


def pointers(div: etree._Element) -> dict[str, etree._Element]:
    """What points to the files of a page, by their id."""
    return {row.get("FILEID", ""): row for row in div.iterchildren(f"{METS}fptr")}


def has_any(root: etree._Element, paths: Iterable[str]) -> bool:
    """Whether there is anything at one of the paths."""
    return any(root.find(f".//{path}") is not None for path in paths)


def excerpt(
    root: etree._Element,
    some_files: Iterable[tuple[str, etree._Element]],
    divs: Iterable[etree._Element],
    names: Iterable[str],
) -> etree._Element:
    """A tree with some files by their groups, some pages, and groups of these names, if empty.

    Other orders than that of pages, links between orders, and who worked on it are left out.
    """
    left_out = {f"{METS}{name}" for name in ("fileSec", "structMap", "structLink")}
    attributes = {str(name): str(value) for name, value in root.attrib.items()}
    part = etree.Element(root.tag, attributes, cast("dict[str, str]", root.nsmap))
    part.extend(deepcopy(child) for child in root if child.tag not in left_out)
    for agent in agents(part):
        parent(agent).remove(agent)
    section = etree.SubElement(part, f"{METS}fileSec")
    made: dict[str, etree._Element] = {}

    def group(name: str) -> etree._Element:
        if name not in made:
            made[name] = etree.SubElement(section, f"{METS}fileGrp", {"USE": name})
        return made[name]

    for name in names:
        group(name)
    for name, element in some_files:
        group(name).append(deepcopy(element))
    structure = etree.SubElement(part, f"{METS}structMap", {"TYPE": "PHYSICAL"})
    sequence = etree.SubElement(structure, f"{METS}div", {"TYPE": "physSequence"})
    for first in islice(_sequences(root), 1):
        sequence.set("ID", first.get("ID", "physSequence"))
    sequence.extend(deepcopy(div) for div in divs)
    return part


def agents(root: etree._Element) -> list[etree._Element]:
    """The programs and people that are named in the header."""
    return root.findall(f"{METS}metsHdr/{METS}agent")


def signature(element: etree._Element) -> Any:
    """The same for elements that say the same, however they are indented."""
    text = (element.text or "").strip()
    inside = tuple(signature(child) for child in element if isinstance(child.tag, str))
    return element.tag, tuple(sorted(element.attrib.items())), text, inside


# Names of pages


def physical_names(divs: dict[str, etree._Element]) -> dict[str, dict[str, list[str]]]:
    """Pages by the values of each attribute of theirs."""
    found = _empty("physical")
    for page, div in divs.items():
        for name, values in found.items():
            if div.get(name.upper()):
                values.setdefault(div.get(name.upper(), ""), []).append(page)
    return found


def logical_names(
    root: etree._Element, divs: dict[str, etree._Element]
) -> dict[str, dict[str, list[str]]]:
    """Pages by the values of each attribute of the chapters and such that are linked to them."""
    links: dict[str, list[str]] = {}
    for link in root.iterfind(f"{METS}structLink/{METS}smLink"):
        page = link.get(f"{XLINK}to", "")
        if page in divs:
            links.setdefault(link.get(f"{XLINK}from", ""), []).append(page)
    found = _empty("logical")
    for structure in root.iterchildren(f"{METS}structMap"):
        if structure.get("TYPE") != "LOGICAL":
            continue
        for div in structure.iter(f"{METS}div"):
            # Each link counts once, so that ids that come again do not multiply them.
            pages = links.pop(div.get("ID", ""), [])
            for name, values in found.items():
                if pages and div.get(name.upper()):
                    values.setdefault(div.get(name.upper(), ""), []).extend(pages)
    return found


def _empty(kind: str) -> dict[str, dict[str, list[str]]]:
    names = (row.partition(":") for row in ATTRIBUTES)
    return {name: {} for prefix, _, name in names if prefix == kind}


# Additions, each at the place that the schema has for it


def header(root: etree._Element) -> etree._Element:
    """The header, made if there is none."""
    found = root.find(f"{METS}metsHdr")
    if found is None:
        found = etree.Element(f"{METS}metsHdr")
        root.insert(0, found)
    return found


def add_group(root: etree._Element, name: str) -> etree._Element:
    """A new file group."""
    section = root.find(f"{METS}fileSec")
    if section is None:
        section = etree.Element(f"{METS}fileSec")
        _insert_before(root, section, _AFTER_FILES)
    return etree.SubElement(section, f"{METS}fileGrp", USE=name)


def add_page(root: etree._Element, page: str) -> etree._Element:
    """A new page after the others."""
    sequence = next(_sequences(root), None)
    if sequence is None:
        structure = etree.Element(f"{METS}structMap", TYPE="PHYSICAL")
        _insert_before(root, structure, _AFTER_FILES[1:])
        sequence = etree.SubElement(structure, f"{METS}div", TYPE="physSequence")
    return etree.SubElement(sequence, f"{METS}div", TYPE="page", ID=page)


def _insert_before(root: etree._Element, element: etree._Element, names: Iterable[str]) -> None:
    for child in root:
        if child.tag in {f"{METS}{name}" for name in names}:
            child.addprevious(element)
            return
    root.append(element)


def mets_content(path: Path, most_bytes: int | None = None) -> bytes:
    """What is in the METS file at a path, see `Mets.read`."""
    most = settings.get().ocrd_max_mets_bytes if most_bytes is None else most_bytes
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise WorkspaceInvalid(f"{path.name} cannot be read: {error.strerror}") from error
    if len(content) > most:
        raise WorkspaceInvalid(f"{path.name} is larger than {most} bytes", limit=most)
    return content
