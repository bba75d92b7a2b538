"""The files and options of a request, as a form that is sent while it is read."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

#: A path; the bytes of a file; a file that is open; or one of the last two with a name.
File = str | Path | bytes | BinaryIO | tuple[str, bytes | BinaryIO]

#: A field of the form; a list repeats it, None leaves it out.
Option = str | float | bool | Sequence[str] | None

_Field = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Upload:
    """A form of files and options. It is `repeatable` if all its files can be read once more."""

    form: list[_Field]
    repeatable: bool


class _Stream:
    """A file that can be read once and whose size is not known, such as a pipe."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read


@contextmanager
def opened(files: Sequence[File], options: Mapping[str, Option]) -> Iterator[Upload]:
    """A form of files and options; files that are given by their paths are open meanwhile.

    Raises:
        ValueError: if there is no file, and no workspace or upload that the server has.
        OSError: if one cannot be opened.
    """
    if not files and not options.keys() & {"workspace", "upload"}:
        raise ValueError("there is no file to send")
    repeatable = True
    with ExitStack() as stack:
        # Fields go as parts without a file name.
        form: list[_Field] = [
            (name, (None, text)) for name, value in options.items() for text in _texts(value)
        ]
        for number, file in enumerate(files, 1):
            name, content = _named(file, number)
            if isinstance(content, Path):
                content = stack.enter_context(content.open("rb"))
            if not isinstance(content, bytes) and not content.seekable():
                repeatable, content = False, _Stream(content)  # type: ignore[assignment]
            name = name.encode(
                errors="replace"
            ).decode()  # file systems know names that are no text
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            form.append(("file", (name, content, kind)))
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
