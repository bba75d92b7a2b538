"""Files and options of a request as a multipart form, whose files are read while it is sent."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

#: A path, the bytes of a file, an open file, or a tuple of a name and one of the last two.
File = str | Path | bytes | BinaryIO | tuple[str, bytes | BinaryIO]

#: The value of a form field. A list repeats the field, None omits it.
Option = str | float | bool | Sequence[str] | None

_Field = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Upload:
    """A form of files and options. `repeatable` is true if all files can be read again."""

    form: list[_Field]
    repeatable: bool


class _Stream:
    """A file that can only be read once and whose size is unknown, e.g. a pipe."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read


@contextmanager
def open_form(files: Sequence[File], options: Mapping[str, Option]) -> Iterator[Upload]:
    """Yields a form of files and options. Files given as paths are open during the block.

    Raises:
        ValueError: if there is no file, and no option `workspace` or `upload`.
        OSError: if a file cannot be opened.
    """
    if not files and not options.keys() & {"workspace", "upload"}:
        raise ValueError("no file to submit")
    repeatable = True
    with ExitStack() as stack:
        # In httpx, a part without a file name is a form field.
        form: list[_Field] = [
            (name, (None, text)) for name, value in options.items() for text in _texts(value)
        ]
        for number, file in enumerate(files, 1):
            name, content = _named(file, number)
            if isinstance(content, Path):
                content = stack.enter_context(content.open("rb"))
            if not isinstance(content, bytes) and not content.seekable():
                repeatable, content = False, _Stream(content)  # type: ignore[assignment]
            # File names can contain bytes that are not valid text (surrogate escapes).
            name = name.encode(errors="replace").decode()
            media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
            form.append(("file", (name, content, media_type)))
        yield Upload(form, repeatable)


def _named(file: File, number: int) -> tuple[str, bytes | BinaryIO | Path]:
    if isinstance(file, tuple):
        return file
    if isinstance(file, str | Path):
        return Path(file).name, Path(file)
    name = getattr(file, "name", None)
    return Path(name).name if isinstance(name, str) else f"document-{number}", file


def _texts(value: Option) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, int | float):
        return [str(value)]
    return list(value)
