"""METS files as OCR-D uses them: pages, file groups, and the files that show each page.

The format is specified in https://ocr-d.de/en/spec/mets. A file is indexed once when it is parsed,
and look-ups are fast with tens of thousands of pages.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lxml import etree

from ocr_tasks.formats.untrusted_xml import large_tree
from ocr_tasks.ocrd.errors import WorkspaceInvalid
from ocr_tasks.ocrd.mets import page_ids, tree
from ocr_tasks.ocrd.mets.page_ids import is_page_id
from ocr_tasks.ocrd.mets.paths import check_local, is_http_url, is_url
from ocr_tasks.ocrd.mets.tree import METS, MISPLACED, OCRD, XLINK, is_local, mets_content
from ocr_tasks.storage import atomic

__all__ = ["File", "Mets", "is_group_name", "is_page_id", "mets_content"]

_GROUP = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,199}")


def is_group_name(text: str) -> bool:
    """Returns whether this can be the name of a file group, and of a folder with its files."""
    return _GROUP.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class File:
    """A file that the METS file references. `page` is the first page that it shows, or ''.

    `href` is a path relative to the METS file if the file is `local`, else a URL, or '' if the file
    has no location.
    """

    id: str
    group: str
    page: str
    media_type: str
    href: str
    local: bool


class Mets:
    """A METS file in memory."""

    def __init__(self, root: etree._Element) -> None:
        """Indexes the tree. Raises WorkspaceInvalid if it is not METS."""
        if root.tag != f"{METS}mets":
            raise WorkspaceInvalid("The file is XML, but not METS")
        self._root = root
        self._divs = tree.page_divs(root)
        self._groups = tree.groups(root)
        self._elements: dict[str, etree._Element] = {}
        self._files: dict[str, File] = {}
        self._duplicate_ids: list[str] = []
        #: The page's pointer elements by file id, for each page.
        self._pointers = {page: tree.pointers(div) for page, div in self._divs.items()}
        self._pages_of: dict[str, list[str]] = {}
        for page, pointers in self._pointers.items():
            for file_id in pointers:
                self._pages_of.setdefault(file_id, []).append(page)
        for group, element in tree.files(root):
            file_id = element.get("ID", "")
            if file_id in self._elements:
                self._duplicate_ids.append(file_id)
            self._index(file_id, group, element)

    @classmethod
    def read(cls, path: Path, most_bytes: int | None = None) -> Mets:
        """Parses the METS file at `path`.

        `most_bytes` is its maximum size, by default OCR_OCRD_MAX_METS_BYTES.
        """
        return cls.parse(mets_content(path, most_bytes))

    @classmethod
    def parse(cls, content: bytes) -> Mets:
        """Parses the content of a METS file."""
        try:
            return cls(large_tree(content, "METS"))
        except ValueError as error:
            raise WorkspaceInvalid(str(error)) from error

    # Content

    @property
    def pages(self) -> list[str]:
        """The page ids, in order."""
        return list(self._divs)

    @property
    def groups(self) -> list[str]:
        """The names of the file groups, in order."""
        return list(self._groups)

    def files(self, group: str | None = None, page: str | None = None) -> list[File]:
        """Returns the files, or only those of a group or page.

        With `page`, that page is the `page` of each returned file, because a file can show several
        pages.
        """
        if page is None:
            found = list(self._files.values())
        else:
            ids = self._pointers.get(page, {})
            found = [replace(self._files[name], page=page) for name in ids if name in self._files]
        return [file for file in found if group is None or file.group == group]

    def pages_of(self, group: str) -> set[str]:
        """Returns the ids of the pages that have a file in the group."""
        return {
            page
            for file in self._files.values()
            if file.group == group
            for page in self._pages_of.get(file.id, ())
        }

    def resolve(self, page_id: str) -> list[str]:
        """Returns the ids of the selected pages, in order.

        `page_id` has OCR-D's syntax (see `page_ids`); '' selects all pages.
        """
        return page_ids.resolve(page_id, self.pages, self._values)

    def _values(self, attribute: str) -> Mapping[str, Sequence[str]]:
        kind, _, name = attribute.partition(":")
        return (self._physical if kind == "physical" else self._logical)[name]

    @cached_property
    def _physical(self) -> dict[str, dict[str, list[str]]]:
        return tree.physical_names(self._divs)

    @cached_property
    def _logical(self) -> dict[str, dict[str, list[str]]]:
        return tree.logical_names(self._root, self._divs)

    # Changes

    def add_file(self, group: str, file_id: str, page: str, media_type: str, href: str) -> None:
        """Adds a file that shows a page ('' for none), or replaces the file with the same id.

        `href` is a path relative to the METS file, or a URL. Missing groups and pages are created.
        """
        element = etree.Element(f"{METS}file", ID=file_id, MIMETYPE=media_type, nsmap=self._nsmap)
        self._put(file_id, group, element, [page] if page else [])
        self.set_location(file_id, href)

    def set_location(self, file_id: str, href: str) -> None:
        """Sets the location of a file: a path relative to the METS file, or a URL."""
        element = self._elements[file_id]
        for locat in element.findall(f"{METS}FLocat"):
            element.remove(locat)
        locat = etree.SubElement(element, f"{METS}FLocat")
        kind = {"LOCTYPE": "URL"} if is_url(href) else {"LOCTYPE": "OTHER", "OTHERLOCTYPE": "FILE"}
        locat.attrib.update(tuple(kind.items()))
        locat.set(f"{XLINK}href", href)
        self._index(file_id, self._files[file_id].group, element)

    def add_agent(self, name: str, step: str, notes: Mapping[str, str]) -> None:
        """Adds a program to the METS header, with its step in OCR-D's terms and its options."""
        agent = etree.Element(f"{METS}agent", nsmap=self._nsmap | {"ocrd": OCRD})
        kind = {"TYPE": "OTHER", "OTHERTYPE": "SOFTWARE", "ROLE": "OTHER", "OTHERROLE": step}
        agent.attrib.update(tuple(kind.items()))
        etree.SubElement(agent, f"{METS}name").text = name
        for option, value in notes.items():
            note = etree.SubElement(agent, f"{METS}note")
            note.set(f"{{{OCRD}}}option", option)
            note.text = value
        self._add_agent(agent)

    def merge(self, other: Mets) -> None:
        """Adds the groups, files, page references and agents of a modified copy.

        Files with the same id are replaced. Merging again changes nothing.
        """
        for group in other.groups:
            self._group(group)
        for file_id, theirs in other._elements.items():
            group, pages = other._files[file_id].group, other._pages_of.get(file_id, [])
            ours = self._elements.get(file_id)
            if (
                ours is None
                or self._files[file_id].group != group
                or tree.signature(ours) != tree.signature(theirs)
            ):
                self._put(file_id, group, deepcopy(theirs), pages)
            for page in pages:
                self._link(file_id, page)
        for agent in tree.agents(other._root):
            if tree.signature(agent) not in self._agents:
                self._add_agent(deepcopy(agent))

    def excerpt(self, pages: Collection[str], groups: Iterable[str]) -> Mets:
        """Returns a copy with only some pages.

        It contains the files of these pages, files without a page, and at least the groups
        `groups`.
        """
        shown = set[str]().union(*(self._pointers[page] for page in pages))
        kept = (name for name in self._files if name in shown or not self._pages_of.get(name))
        files = [(self._files[name].group, self._elements[name]) for name in kept]
        divs = [div for page, div in self._divs.items() if page in pages]
        known = [name for name in groups if name in self._groups]
        return Mets(tree.excerpt(self._root, files, divs, known))

    def keep_only_changes(self, before: Mets) -> None:
        """Removes the files and agents that are the same in `before`."""
        for agent in tree.agents(self._root):
            if tree.signature(agent) in before._agents:
                tree.parent(agent).remove(agent)
        for file_id in [name for name in self._files if before._has_same(name, self)]:
            for page in self._pages_of.pop(file_id, []):
                pointer = self._pointers[page].pop(file_id)
                tree.parent(pointer).remove(pointer)
            element = self._elements.pop(file_id)
            tree.parent(element).remove(element)
            del self._files[file_id]

    def _has_same(self, file_id: str, other: Mets) -> bool:
        """Returns whether a file of `other` is the same here."""
        ours = self._elements.get(file_id)
        return (
            ours is not None
            and self._files[file_id] == other._files[file_id]
            and self._pages_of.get(file_id) == other._pages_of.get(file_id)
            and tree.signature(ours) == tree.signature(other._elements[file_id])
        )

    def write(self, path: Path) -> None:
        """Writes the file atomically and durably. Raises OSError on failure."""
        etree.indent(self._root)
        with atomic.replacing(path) as part:
            with part.open("xb") as file:
                self._root.getroottree().write(file, encoding="UTF-8", xml_declaration=True)
            atomic.fsync(part)

    @property
    def _nsmap(self) -> dict[Any, str]:
        """The usual namespace prefixes that the root element does not declare."""
        usual = {"mets": METS[1:-1], "xlink": XLINK[1:-1]}
        return {name: uri for name, uri in usual.items() if uri not in self._root.nsmap.values()}

    def _put(self, file_id: str, group: str, element: etree._Element, pages: list[str]) -> None:
        """Adds a file's element, or replaces it in place if the file is in the same group."""
        parent, old = self._group(group), self._elements.get(file_id)
        if old is not None and self._files[file_id].group == group:
            tree.parent(old).replace(old, element)
        else:
            if old is not None:
                tree.parent(old).remove(old)
            parent.append(element)
        for page in [row for row in self._pages_of.get(file_id, []) if row not in pages]:
            pointer = self._pointers[page].pop(file_id)
            tree.parent(pointer).remove(pointer)
            self._pages_of[file_id].remove(page)
        for page in pages:
            self._link(file_id, page)
        self._index(file_id, group, element)

    def _index(self, file_id: str, group: str, element: etree._Element) -> None:
        href, local = tree.location(element)
        page = next(iter(self._pages_of.get(file_id, ())), "")
        media_type = element.get("MIMETYPE", "")
        self._elements[file_id] = element
        self._files[file_id] = File(file_id, group, page, media_type, href, local)

    def _link(self, file_id: str, page: str) -> None:
        if page not in self._divs:
            self._divs[page] = tree.add_page(self._root, page)
            self._pointers[page] = {}
            self.__dict__.pop("_physical", None)
        if file_id not in self._pointers[page]:
            pointer = etree.SubElement(self._divs[page], f"{METS}fptr", FILEID=file_id)
            self._pointers[page][file_id] = pointer
            self._pages_of.setdefault(file_id, []).append(page)
            if file_id in self._files:
                self._index(file_id, self._files[file_id].group, self._elements[file_id])

    def _group(self, name: str) -> etree._Element:
        if name not in self._groups:
            self._groups[name] = tree.add_group(self._root, name)
        return self._groups[name]

    @cached_property
    def _agents(self) -> set[Any]:
        """The signatures of the agents in the header."""
        return {tree.signature(agent) for agent in tree.agents(self._root)}

    def _add_agent(self, agent: etree._Element) -> None:
        tree.header(self._root).insert(len(self._agents), agent)
        self._agents.add(tree.signature(agent))

    # Checks

    def check(self, folder: Path) -> None:
        """Checks that names are valid, and that files are below `folder` or have http(s) URLs.

        Raises WorkspaceInvalid.
        """
        self.check_names()
        known: set[Path] = {folder}
        for href, local in self._hrefs():
            if local:
                check_local(href, folder, known)
            elif not is_http_url(href):
                raise WorkspaceInvalid(
                    f"METS references {href!r:.200}, which is not an http(s) URL"
                )

    def check_names(self) -> None:
        """Raises WorkspaceInvalid if an id of a page or file or a group name is invalid."""
        for page in tree.page_names(self._root):
            if not is_page_id(page):
                raise WorkspaceInvalid(f"METS has a page with the invalid ID {page!r:.200}")
        for group in self._groups:
            if not is_group_name(group):
                raise WorkspaceInvalid(f"METS has a file group with the invalid USE {group!r:.200}")
        twice = [*self._duplicate_ids, *tree.duplicates(tree.page_names(self._root))]
        if twice:
            raise WorkspaceInvalid(f"METS uses the ID {twice[0]!r:.200} twice")
        for file in self._files.values():
            if not file.id or not file.href:
                raise WorkspaceInvalid(f"METS has a file without ID or FLocat: {file.id!r:.200}")
        if tree.has_any(self._root, MISPLACED):
            raise WorkspaceInvalid("METS has a file inside another file or outside all file groups")

    def _hrefs(self) -> Iterator[tuple[str, bool]]:
        for locat in self._root.iter(f"{METS}FLocat"):
            yield locat.get(f"{XLINK}href", ""), is_local(locat)
