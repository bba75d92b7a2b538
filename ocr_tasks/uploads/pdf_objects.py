"""Objects of a PDF: what `uploads.merging` reads and writes, in documents that may be damaged.

References between objects may form cycles, and many objects may share a large one. All functions
end nevertheless.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any

import pikepdf
from pikepdf import Array, Dictionary, Name, Object, Stream, String

#: Maximum number of bookmarks of a file. An outline may be endless, because its items can point at
#: each other.
_MOST_BOOKMARKS = 100_000

#: Maximum number of entries of a tree of names or numbers, whose nodes may share their arrays.
_MOST_TREE_ENTRIES = 500_000


def dictionary(owner: Object, key: str) -> Dictionary:
    """Returns a dictionary in another one; an empty one if it is missing."""
    found = owner.get(key)
    return found if isinstance(found, Dictionary) else Dictionary()


def array(owner: Object, key: str) -> Array:
    found = owner.get(key)
    return found if isinstance(found, Array) else Array()


def names(pdf: pikepdf.Pdf, kind: str) -> Iterator[tuple[String, Any]]:
    """Yields the names of a kind and their values. Names keep their bytes, as references do."""
    for name, value in tree_rows(dictionary(pdf.Root, "/Names").get(kind), "/Names"):
        if isinstance(name, String):
            yield name, value


def tree_rows(root: Any, leaf: str) -> Iterator[tuple[Any, Any]]:
    """Yields the keys and values of a name or number tree, whose nodes may be shared or a cycle."""
    seen: set[tuple[int, int]] = set()
    entries = 0
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, Dictionary) or (node.is_indirect and node.objgen in seen):
            continue
        seen.add(node.objgen)
        rows, kids = array(node, leaf), array(node, "/Kids")
        entries += len(rows) + len(kids)
        if entries > _MOST_TREE_ENTRIES:
            raise ValueError("too many entries of a tree")
        values = list(rows)
        yield from zip(values[::2], values[1::2], strict=False)
        waiting += reversed(list(kids))


def name_tree(rows: Iterable[tuple[String | str, Any]]) -> Dictionary:
    """Returns a tree of names in the order of their bytes; viewers search for the bytes."""
    by_bytes: dict[bytes, Any] = {}
    for name, value in rows:
        by_bytes.setdefault(bytes(String(name) if isinstance(name, str) else name), value)
    return Dictionary(
        Names=Array([part for name in sorted(by_bytes) for part in (String(name), by_bytes[name])])
    )


def unused(name: str, used: set[str]) -> str:
    """Returns a name that is not used, and adds it to those that are."""
    candidates = (name if n == 1 else f"{name}-{n}" for n in count(1))
    unused = next(candidate for candidate in candidates if candidate not in used)
    used.add(unused)
    return unused


def text(name: String) -> str:
    """Returns the text of a name, or its bytes in Latin-1 if they are not a text."""
    with suppress(UnicodeDecodeError):
        text = str(name)
        if text and "\ufffd" not in text:
            return text
    return bytes(name).decode("latin-1")


def references(pdf: pikepdf.Pdf) -> Iterator[tuple[Dictionary | Stream, str]]:
    """Yields each dictionary that refers to a named destination, and the key of its name."""
    for found in _dictionaries(pdf):
        for key in ["/Dest", *(["/D"] if found.get("/S") == Name.GoTo else [])]:
            if isinstance(found.get(key), String | Name):
                yield found, key


def delete_tag_keys(pdf: pikepdf.Pdf) -> None:
    """Deletes the keys of pages, annotations and XObjects in the structure tree of their file."""
    for found in _dictionaries(pdf):
        for key in ("/StructParents", "/StructParent"):
            if key in found:
                del found[key]


def _dictionaries(pdf: pikepdf.Pdf) -> Iterator[Dictionary | Stream]:
    """Yields each dictionary of a file once, those of streams included."""
    for start in pdf.objects:
        waiting = [start]
        while waiting:
            found = waiting.pop()
            if isinstance(found, Dictionary | Stream):
                yield found
                waiting += [value for _, value in found.items() if _is_nested(value)]
            elif isinstance(found, Array):
                waiting += [value for value in found if _is_nested(value)]


def _is_nested(value: Any) -> bool:
    return isinstance(value, Array | Dictionary) and not value.is_indirect


def siblings(item: Any, seen: set[tuple[int, int]]) -> Iterator[Dictionary]:
    """Yields a bookmark and those after it, each one once."""
    while isinstance(item, Dictionary) and item.objgen not in seen:
        if len(seen) >= _MOST_BOOKMARKS:
            raise ValueError("too many bookmarks")
        seen.add(item.objgen)
        yield item
        item = item.get("/Next")


def attach(item: Object, parent: Object) -> None:
    """Makes a bookmark the last one of its parent."""
    item.Parent = parent
    last = _last_bookmark(parent)
    if last is None:
        parent.First = item
    else:
        last.Next = item
        item.Prev = last
    parent.Last = item


def _last_bookmark(parent: Object) -> Object | None:
    """Returns the last bookmark of a parent, also if its entry is missing."""
    first, last = parent.get("/First"), parent.get("/Last")
    if not isinstance(first, Dictionary):
        return None
    return last if isinstance(last, Dictionary) else [*siblings(first, set())][-1]


def set_field_defaults(pdf: pikepdf.Pdf) -> None:
    """Copies the defaults of a form to its fields. They would get those of the base's form."""
    form = dictionary(pdf.Root, "/AcroForm")
    for key, value in (("/DA", form.get("/DA")), ("/Q", form.get("/Q", 0))):
        for field in fields(pdf):
            if value is not None and key not in field:
                field[key] = value


def fields(pdf: pikepdf.Pdf) -> Iterator[Dictionary]:
    """Yields the form fields at the top, each one once."""
    seen: set[tuple[int, int]] = set()
    for field in array(dictionary(pdf.Root, "/AcroForm"), "/Fields"):
        if isinstance(field, Dictionary) and (not field.is_indirect or field.objgen not in seen):
            seen.add(field.objgen)
            yield field
