"""Merges the PDFs of one request into one, with what they have besides their pages.

One of them is the base and keeps everything. Of the others, bookmarks, named destinations,
attachments, page labels, form fields, layers, the title and the language are added to it. What
cannot be added is reported, e.g. tags.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pikepdf
from pikepdf import Array, Dictionary, Name, NameTree, NumberTree, Object, String

from ocr_tasks.formats.pdf_errors import INVALID
from ocr_tasks.formats.sentences import listed
from ocr_tasks.uploads import pdf_objects

#: Entries of a bookmark that connect it with other objects of its document.
_CONNECTIONS = ("/First", "/Last", "/Next", "/Prev", "/Parent", "/SE")

#: Kinds of resources of a form. Others may be as many as their names, and share their dictionaries.
_RESOURCES = ("/Encoding", "/ExtGState", "/ColorSpace", "/Pattern", "/Shading", "/XObject", "/Font")

_INFO = {
    "/Title": "the title",
    "/Author": "the author",
    "/Subject": "the subject",
    "/Keywords": "the keywords",
}


@dataclass(frozen=True, slots=True)
class Part:
    """A PDF to merge. `number` is the 1-based number of the uploaded file that it comes from."""

    path: Path
    number: int
    is_image: bool


def merge(parts: list[Part], target: Path) -> list[str]:
    """Writes the pages of all parts into one PDF, and returns warnings about what is lost."""
    base = next((n for n, part in enumerate(parts) if not part.is_image), 0)
    with pikepdf.open(parts[base].path, suppress_warnings=True) as pdf:
        merger = _Merger(pdf, parts[base].number)
        for part in reversed(parts[:base]):
            merger.prepend_image(part)
        for part in parts[base + 1 :]:
            merger.append(part)
        merger.save(target)
    return merger.warnings()


class _Merger:
    """Adds PDFs to the base, which is open."""

    def __init__(self, base: pikepdf.Pdf, number: int) -> None:
        self._base = base
        self._root = base.Root
        self._number = number  # of the file that is being added
        self._versions = [base.pdf_version]
        self._lost: dict[str, list[int]] = defaultdict(list)
        self._labels = [self._labels_of(base)]
        # Viewers would show the attachments of a portfolio instead of the pages.
        if "/Collection" in self._root:
            del self._root.Collection
        if base.is_encrypted:
            self._lose("restrictions")

    def prepend_image(self, part: Part) -> None:
        """Adds the page of an image before the first page."""
        with pikepdf.open(part.path, suppress_warnings=True) as pdf:
            self._base.pages.insert(0, pdf.pages[0])
            self._labels.insert(0, (1, {}))

    def append(self, part: Part) -> None:
        """Adds the pages of a part after the last page, and what else it has."""
        self._number = part.number
        with pikepdf.open(part.path, suppress_warnings=True) as pdf:
            self._versions.append(pdf.pdf_version)
            if part.is_image:
                self._add_pages(pdf)
                self._labels.append((1, {}))
            else:
                self._append_pdf(pdf)

    def save(self, target: Path) -> None:
        """Writes the merged PDF."""
        self._write_labels()
        with suppress(*INVALID):
            self._delete_pdfa_claim()
        if "/Size" not in self._base.trailer:  # qpdf has reconstructed the trailer
            self._base.trailer["/Size"] = len(self._base.objects) + 1
        self._base.save(target, min_version=max(self._versions))

    def warnings(self) -> list[str]:
        """Returns a warning for each kind of content that is lost."""
        return [
            f"Merging the files has lost {name} of "
            f"{'file' if len(numbers) == 1 else 'files'} {listed(numbers)}."
            for name, numbers in self._lost.items()
        ]

    @contextmanager
    def _or_lost(self, name: str) -> Iterator[None]:
        """Notes a loss if the block fails."""
        try:
            yield
        except INVALID:
            self._lose(name)

    def _lose(self, name: str) -> None:
        if self._number not in self._lost[name]:
            self._lost[name].append(self._number)

    def _add_pages(self, pdf: pikepdf.Pdf) -> None:
        for page in pdf.pages:  # `extend` would print warnings about what is added later
            self._base.pages.append(page)

    def _append_pdf(self, pdf: pikepdf.Pdf) -> None:
        with self._or_lost("named destinations"):
            self._make_destinations_unique(pdf)
        with self._or_lost("form fields"):  # before the pages, which are copied with their fields
            self._make_fields_unique(pdf)
            pdf_objects.set_field_defaults(pdf)
        if "/StructTreeRoot" in self._root:
            with self._or_lost("tags"):
                pdf_objects.delete_tag_keys(pdf)
        self._add_pages(pdf)
        self._labels.append(self._labels_of(pdf))
        add: dict[str, Callable[[pikepdf.Pdf], None]] = {
            "named destinations": self._add_destinations,
            "bookmarks": self._add_bookmarks,
            "attachments": self._add_attachments,
            "form fields": self._add_form,
            "layers": self._add_layers,
            "metadata": self._add_metadata,
        }
        for name, function in add.items():
            with self._or_lost(name):
                function(pdf)
        self._note_losses(pdf)

    def _note_losses(self, pdf: pikepdf.Pdf) -> None:
        if "/StructTreeRoot" in pdf.Root:
            self._lose("tags")
        if pdf_objects.dictionary(pdf_objects.dictionary(pdf.Root, "/Names"), "/JavaScript"):
            self._lose("scripts")
        if "/XFA" in pdf_objects.dictionary(pdf.Root, "/AcroForm"):
            self._lose("the XFA form")
        if pdf.is_encrypted:
            self._lose("restrictions")

    def _copy(self, pdf: pikepdf.Pdf, value: Any) -> Any:
        """Returns a copy of a value that belongs to the base. Pages must have been added before."""
        if not isinstance(value, Object):
            return value
        if value.is_indirect:
            return self._base.copy_foreign(value)
        if isinstance(value, Array | Dictionary):
            return self._base.copy_foreign(pdf.make_indirect(value))
        return value

    def _extend(self, owner: Object, key: str, pdf: pikepdf.Pdf, values: Iterable[Any]) -> None:
        """Adds copies of the values to an array of the base."""
        copies = [self._copy(pdf, value) for value in values]
        if copies:
            owner[key] = Array([*pdf_objects.array(owner, key), *copies])

    # Named destinations

    def _make_destinations_unique(self, pdf: pikepdf.Pdf) -> None:
        """Renames the destinations of a file whose names are taken, and all references to them."""
        rows = list(pdf_objects.names(pdf, "/Dests"))
        renamed = self._renamed(
            [pdf_objects.text(name) for name, _ in rows],
            {pdf_objects.text(name) for name, _ in pdf_objects.names(self._base, "/Dests")},
        )
        old_form = pdf_objects.dictionary(pdf.Root, "/Dests")
        renamed_old = self._renamed(
            list(old_form.keys()), set(pdf_objects.dictionary(self._root, "/Dests").keys())
        )
        if renamed:
            new_rows = [(renamed.get(pdf_objects.text(name), name), value) for name, value in rows]
            pdf.Root.Names.Dests = pdf_objects.name_tree(new_rows)
        for name, new in renamed_old.items():
            old_form[new] = old_form[name]
            del old_form[name]
        if renamed or renamed_old:
            for owner, key in pdf_objects.references(pdf):
                reference = owner[key]
                if isinstance(reference, Name):
                    owner[key] = Name(renamed_old.get(str(reference), str(reference)))
                elif isinstance(reference, String) and pdf_objects.text(reference) in renamed:
                    owner[key] = String(renamed[pdf_objects.text(reference)])

    def _renamed(self, names: list[str], taken: set[str]) -> dict[str, str]:
        """Returns new names for those that are taken, which neither file has."""
        renamed: dict[str, str] = {}
        used = {*taken, *names}
        for name in names:
            if name in taken and name not in renamed:
                renamed[name] = pdf_objects.unused(f"{name}-{self._number}", used)
        return renamed

    def _add_destinations(self, pdf: pikepdf.Pdf) -> None:
        rows = list(pdf_objects.names(pdf, "/Dests"))
        if rows:
            copies = [(name, self._copy(pdf, value)) for name, value in rows]
            self._root.Names = pdf_objects.dictionary(self._root, "/Names")
            self._root.Names.Dests = pdf_objects.name_tree(
                [*pdf_objects.names(self._base, "/Dests"), *copies]
            )
        old_form = pdf_objects.dictionary(pdf.Root, "/Dests")
        if len(old_form):
            self._root.Dests = pdf_objects.dictionary(self._root, "/Dests")
            for name, value in old_form.items():
                self._root.Dests[name] = self._copy(pdf, value)

    # Bookmarks

    def _add_bookmarks(self, pdf: pikepdf.Pdf) -> None:
        source = pdf_objects.dictionary(pdf.Root, "/Outlines")
        if "/First" not in source:
            return
        if "/Outlines" not in self._root:
            self._root.Outlines = self._base.make_indirect(Dictionary(Type=Name.Outlines))
        target = self._root.Outlines
        target.Count = int(target.get("/Count", 0)) + int(source.get("/Count", 0))
        seen: set[tuple[int, int]] = set()
        waiting = [(source, target)]
        while waiting:
            parent, new_parent = waiting.pop()
            for item in pdf_objects.siblings(parent.get("/First"), seen):
                entries = {
                    key: self._copy(pdf, value)
                    for key, value in item.items()
                    if key not in _CONNECTIONS
                }
                new = self._base.make_indirect(Dictionary(entries))
                pdf_objects.attach(new, new_parent)
                waiting.append((item, new))

    # Attachments

    def _add_attachments(self, pdf: pikepdf.Pdf) -> None:
        rows = list(pdf_objects.names(pdf, "/EmbeddedFiles"))
        if rows:
            present = list(pdf_objects.names(self._base, "/EmbeddedFiles"))
            renamed = self._renamed(
                [pdf_objects.text(name) for name, _ in rows],
                {pdf_objects.text(name) for name, _ in present},
            )
            copies = [
                (
                    renamed.get(pdf_objects.text(name), pdf_objects.text(name)),
                    self._copy(pdf, value),
                )
                for name, value in rows
            ]
            tree = NameTree.new(self._base)  # pikepdf's order of names
            for name, value in [
                *((pdf_objects.text(name), value) for name, value in present),
                *copies,
            ]:
                tree[name] = value
            self._root.Names = pdf_objects.dictionary(self._root, "/Names")
            self._root.Names.EmbeddedFiles = tree.obj
        self._extend(self._root, "/AF", pdf, pdf_objects.array(pdf.Root, "/AF"))

    # Page labels

    def _labels_of(self, pdf: pikepdf.Pdf) -> tuple[int, dict[int, Any]]:
        """Returns the number of pages of a file, and its labels by index of their first page."""
        labels: dict[int, Any] = {}
        with self._or_lost("page labels"):
            if "/PageLabels" in pdf.Root:
                is_base, pages = pdf is self._base, len(pdf.pages)
                labels = {
                    index: row if is_base else self._copy(pdf, row)
                    for index, row in pdf_objects.tree_rows(pdf.Root.PageLabels, "/Nums")
                    if isinstance(index, int) and 0 <= index < pages
                }
        return len(pdf.pages), labels

    def _write_labels(self) -> None:
        """Writes the labels of all files. Pages without labels are numbered by their position."""
        if not any(labels for _, labels in self._labels):
            return
        tree = NumberTree.new(self._base)
        first = 0
        for pages, labels in self._labels:
            tree[first] = Dictionary(S=Name.D, St=first + 1)
            for index, label in labels.items():
                tree[first + index] = label
            first += pages
        self._root.PageLabels = tree.obj

    # Forms

    def _make_fields_unique(self, pdf: pikepdf.Pdf) -> None:
        """Renames form fields whose names are taken; they would share their value."""
        fields = [field for field in pdf_objects.fields(pdf) if "/T" in field]
        renamed = self._renamed(
            [str(field.T) for field in fields],
            {str(field.T) for field in pdf_objects.fields(self._base) if "/T" in field},
        )
        for field in fields:
            field.T = String(renamed.get(str(field.T), str(field.T)))

    def _add_form(self, pdf: pikepdf.Pdf) -> None:
        form = pdf_objects.dictionary(pdf.Root, "/AcroForm")
        fields = list(pdf_objects.fields(pdf))
        if not fields:
            return
        if "/AcroForm" not in self._root:
            self._root.AcroForm = self._base.make_indirect(Dictionary(Fields=Array()))
        target = self._root.AcroForm
        self._extend(target, "/Fields", pdf, fields)
        self._extend(target, "/CO", pdf, pdf_objects.array(form, "/CO"))
        self._add_form_resources(pdf, form, target)
        if form.get("/NeedAppearances", False):
            target.NeedAppearances = True
        flags = int(form.get("/SigFlags", 0)) | int(target.get("/SigFlags", 0))
        if flags:
            target.SigFlags = flags

    def _add_form_resources(self, pdf: pikepdf.Pdf, form: Dictionary, target: Object) -> None:
        """Adds the fonts and other resources that fields refer to by name."""
        target.DR = pdf_objects.dictionary(target, "/DR")
        for kind in _RESOURCES:
            if kind not in pdf_objects.dictionary(form, "/DR"):
                continue
            present = pdf_objects.dictionary(target.DR, kind)
            for name, resource in pdf_objects.dictionary(form.DR, kind).items():
                if name not in present:
                    present[name] = self._copy(pdf, resource)
            target.DR[kind] = present

    # Layers

    def _add_layers(self, pdf: pikepdf.Pdf) -> None:
        layers = pdf_objects.dictionary(pdf.Root, "/OCProperties")
        groups = list(pdf_objects.array(layers, "/OCGs"))
        if not groups:
            return
        if "/OCProperties" not in self._root:
            self._root.OCProperties = Dictionary(OCGs=Array(), D=Dictionary())
        target = self._root.OCProperties
        self._extend(target, "/OCGs", pdf, groups)
        chosen = pdf_objects.dictionary(layers, "/D")
        shown, hidden = (
            {row.objgen for row in pdf_objects.array(chosen, key)} for key in ("/ON", "/OFF")
        )
        if chosen.get("/BaseState") == Name.OFF:
            hidden |= {group.objgen for group in groups if group.objgen not in shown}
        target.D = pdf_objects.dictionary(target, "/D")
        is_hidden = {
            key: [g for g in groups if (g.objgen in hidden) is (key == "/OFF")]
            for key in ("/ON", "/OFF")
        }
        for key, values in is_hidden.items():
            self._extend(target.D, key, pdf, values)
        for key in ("/Order", "/RBGroups", "/AS", "/Locked"):
            self._extend(target.D, key, pdf, pdf_objects.array(chosen, key))

    # Metadata

    def _add_metadata(self, pdf: pikepdf.Pdf) -> None:
        for key, name in _INFO.items():
            self._add_text(self._base.docinfo, pdf.docinfo, key, name)
        self._add_text(self._root, pdf.Root, "/Lang", "the language")

    def _add_text(self, target: Object, source: Object, key: str, name: str) -> None:
        """Copies a text to the base unless it has one. Blank ones count as missing."""
        present, value = (str(row.get(key, "")).strip() for row in (target, source))
        if value and not present:
            target[key] = String(value)
        elif value and value != present:
            self._lose(name)

    def _delete_pdfa_claim(self) -> None:
        """Deletes the statement that the base is a PDF/A, because the merged PDF may not be one."""
        if "/Metadata" in self._root:
            with self._base.open_metadata(False, update_docinfo=False) as metadata:
                for key in [key for key in metadata if "pdfa/ns/id" in key]:
                    del metadata[key]
