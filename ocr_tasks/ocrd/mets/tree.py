"""Access to the elements of a METS file's tree. All functions take linear time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any, cast

from lxml import etree

from ocr_tasks.ocrd import settings as ocrd_settings
from ocr_tasks.ocrd.errors import WorkspaceInvalid
from ocr_tasks.ocrd.mets.page_ids import ATTRIBUTES
from ocr_tasks.ocrd.mets.paths import is_url

METS = "{http://www.loc.gov/METS/}"
XLINK = "{http://www.w3.org/1999/xlink}"
OCRD = "https://ocr-d.de"

#: Paths of file elements in places where `files` does not find them.
MISPLACED = f"{METS}file/{METS}file", f"{METS}fileSec/{METS}file"

#: Elements after fileSec in the order of the schema.
_AFTER_FILES = ("structMap", "structLink", "behaviorSec")


def parent(element: etree._Element) -> etree._Element:
    """Returns the parent of an element that has one."""
    found = element.getparent()
    assert found is not None  # noqa: S101  # only called for elements with a parent
    return found


def groups(root: etree._Element) -> dict[str, etree._Element]:
    """Returns the file groups by name; of several with the same name, the first."""
    found: dict[str, etree._Element] = {}
    for section in root.iterchildren(f"{METS}fileSec"):
        for group in section.iter(f"{METS}fileGrp"):
            found.setdefault(group.get("USE", ""), group)
    return found


def files(root: etree._Element) -> Iterator[tuple[str, etree._Element]]:
    """Yields the name of its group and the element of each file."""
    for section in root.iterchildren(f"{METS}fileSec"):
        for group in section.iter(f"{METS}fileGrp"):
            for file in group.iterchildren(f"{METS}file"):
                yield group.get("USE", ""), file


def location(file: etree._Element) -> tuple[str, bool]:
    """Returns a file's location, and whether it is a local path, which takes precedence over a URL.

    Without a location the result is ('', False).
    """
    found = "", False
    for locat in file.iterchildren(f"{METS}FLocat"):
        local = is_local(locat)
        if local or not found[0]:
            found = locat.get(f"{XLINK}href", ""), local
        if local:
            break
    return found


def is_local(locat: etree._Element) -> bool:
    """Returns whether an FLocat element contains a path, not a URL."""
    declared = (locat.get("LOCTYPE"), locat.get("OTHERLOCTYPE")) == ("OTHER", "FILE")
    return declared or not is_url(locat.get(f"{XLINK}href", ""))


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
    """Returns the ids of all pages, including invalid and repeated ones."""
    return [div.get("ID", "") for div in _page_divs(root)]


def duplicates(names: Iterable[str]) -> list[str]:
    """Returns the names that occur more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def page_divs(root: etree._Element) -> dict[str, etree._Element]:
    """Returns the elements of the pages by id."""
    return {div.get("ID", ""): div for div in _page_divs(root)}


def pointers(div: etree._Element) -> dict[str, etree._Element]:
    """Returns a page's pointers to files (`fptr`) by file id."""
    return {row.get("FILEID", ""): row for row in div.iterchildren(f"{METS}fptr")}


def has_any(root: etree._Element, paths: Iterable[str]) -> bool:
    """Returns whether there is an element at one of the paths."""
    return any(root.find(f".//{path}") is not None for path in paths)


def excerpt(
    root: etree._Element,
    some_files: Iterable[tuple[str, etree._Element]],
    divs: Iterable[etree._Element],
    names: Iterable[str],
) -> etree._Element:
    """Returns a tree with some files, given with their groups, and some pages.

    The groups `names` are included even if they are empty. Other structMaps, structLinks and agents
    are omitted.
    """
    left_out = {f"{METS}{name}" for name in ("fileSec", "structMap", "structLink")}
    attributes = {str(name): str(value) for name, value in root.attrib.items()}
    part = etree.Element(root.tag, attributes, cast("dict[str, str]", root.nsmap))
    part.extend(deepcopy(child) for child in root if child.tag not in left_out)
    for agent in agents(part):
        parent(agent).remove(agent)
    section = etree.SubElement(part, f"{METS}fileSec")
    created: dict[str, etree._Element] = {}

    def group(name: str) -> etree._Element:
        if name not in created:
            created[name] = etree.SubElement(section, f"{METS}fileGrp", {"USE": name})
        return created[name]

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
    """Returns the agents (programs and people) in the header."""
    return root.findall(f"{METS}metsHdr/{METS}agent")


def signature(element: etree._Element) -> Any:
    """Returns a value that is equal for equal elements, regardless of indentation."""
    text = (element.text or "").strip()
    inside = tuple(signature(child) for child in element if isinstance(child.tag, str))
    return element.tag, tuple(sorted(element.attrib.items())), text, inside


# Page attributes


def physical_names(divs: dict[str, etree._Element]) -> dict[str, dict[str, list[str]]]:
    """Returns the page ids by value, for each attribute of pages."""
    found = _empty("physical")
    for page, div in divs.items():
        for name, values in found.items():
            if div.get(name.upper()):
                values.setdefault(div.get(name.upper(), ""), []).append(page)
    return found


def logical_names(
    root: etree._Element, divs: dict[str, etree._Element]
) -> dict[str, dict[str, list[str]]]:
    """Returns the ids of linked pages by value, for each attribute of logical divs."""
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
            # `pop`: if an id occurs again, its links must not count twice.
            pages = links.pop(div.get("ID", ""), [])
            for name, values in found.items():
                if pages and div.get(name.upper()):
                    values.setdefault(div.get(name.upper(), ""), []).extend(pages)
    return found


def _empty(kind: str) -> dict[str, dict[str, list[str]]]:
    names = (row.partition(":") for row in ATTRIBUTES)
    return {name: {} for prefix, _, name in names if prefix == kind}


# Additions, each at the place that the schema defines


def header(root: etree._Element) -> etree._Element:
    """Returns the header, which is created if it is missing."""
    found = root.find(f"{METS}metsHdr")
    if found is None:
        found = etree.Element(f"{METS}metsHdr")
        root.insert(0, found)
    return found


def add_group(root: etree._Element, name: str) -> etree._Element:
    """Adds a file group and returns its element."""
    section = root.find(f"{METS}fileSec")
    if section is None:
        section = etree.Element(f"{METS}fileSec")
        _insert_before(root, section, _AFTER_FILES)
    return etree.SubElement(section, f"{METS}fileGrp", USE=name)


def add_page(root: etree._Element, page: str) -> etree._Element:
    """Adds a page after the last one and returns its element."""
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
    """Returns the content of the METS file at a path; see `Mets.read`."""
    most = ocrd_settings.get().ocrd_max_mets_bytes if most_bytes is None else most_bytes
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise WorkspaceInvalid(f"{path.name} cannot be read: {error.strerror}") from error
    if len(content) > most:
        raise WorkspaceInvalid(f"{path.name} is larger than {most} bytes", limit=most)
    return content
