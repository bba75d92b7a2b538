"""Checks uploaded files, in a sandboxed process that `sandbox.forkserver` starts.

An order for a document (`uploads.receive` sends it) names a folder with the uploaded files. The
process writes `input.pdf` into that folder and responds with
`{"pages": …, "media_type": …, "warnings": […]}`, or with the error
`{"code": …, "detail": …, "file": …}`, where `file` is the 1-based number of the rejected file.
Orders of other kinds are passed to extensions.

The type of a file is detected from its content. A single PDF is kept byte for byte. Images become
pages, without recompression if PDF supports their format. Several files are merged into one PDF.
"""

from __future__ import annotations

import errno
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pikepdf

from ocr_tasks import errors, extensions
from ocr_tasks.sandbox import forkserver, rlimits
from ocr_tasks.uploads import merging

POINTS_PER_INCH = 72

_PDF = "application/pdf"

#: Errors of the operating system. EFBIG concerns files that this process writes, not the upload.
_ERRORS_BY_ERRNO: dict[int | None, type[errors.OcrTasksError]] = {
    errno.ENOSPC: errors.StorageFull,
    errno.EDQUOT: errors.StorageFull,
    errno.EFBIG: errors.CheckFailed,
    errno.ENOMEM: errors.CheckFailed,
}


@dataclass(frozen=True, slots=True)
class Order:
    """A check of a document, with its options and limits.

    `folder` has the files `upload-00001` to the number of `files`. `image_dpi` is the resolution of
    images, None to determine it. `max_page_inches` limits the longer side of a page.
    `max_image_megapixels` limits each image.
    """

    folder: Path
    files: int
    image_dpi: int | None
    allow_signed: bool
    max_pages: int
    max_page_inches: float
    max_image_megapixels: float

    @property
    def paths(self) -> list[Path]:
        return [self.folder / f"upload-{number:05d}" for number in range(1, self.files + 1)]


def respond(data: dict[str, Any]) -> dict[str, Any]:
    """Carries out an order in this process, and returns the response. See the module.

    Restricts the process first, to the limits in `sandbox` (`rlimits.sandbox`).
    """
    kind, limits = data.pop("kind", "document"), data.pop("sandbox")
    data["folder"] = Path(data["folder"])
    try:
        rlimits.sandbox(data["folder"], Path(limits.pop("data_dir")), **limits)
        return run(Order(**data)) if kind == "document" else _check_other(kind, data)
    except _Rejected as rejected:
        error = rejected.error
        return {"code": error.code, "detail": error.detail, "file": rejected.number}
    except errors.OcrTasksError as error:
        return {"code": error.code, "detail": error.detail, "file": 1}
    except MemoryError:
        return {"code": errors.CheckFailed.code, "detail": "not enough memory", "file": 1}
    except OSError as error:
        cls = _ERRORS_BY_ERRNO.get(error.errno, errors.StorageUnavailable)
        return {"code": cls.code, "detail": cls.title, "file": 1}


class _Rejected(Exception):
    """A file is not accepted; `number` is its 1-based position in the request."""

    def __init__(self, number: int, error: errors.OcrTasksError) -> None:
        super().__init__(number, error)
        self.number = number
        self.error = error


def _check_other(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """Passes an order to the extension that supports its kind, and returns the response."""
    for extension in extensions.installed():
        response = extension.check_upload(kind, data)
        if response is not None:
            return response
    raise errors.CheckFailed(f"unknown kind of upload {kind!r}")


def run(order: Order) -> dict[str, Any]:
    """Converts the files into `input.pdf` and deletes them; returns the response."""
    parts: list[merging.Part] = []
    warnings: list[str] = []
    pages = 0
    media_types = set()
    for number, path in enumerate(order.paths, start=1):
        try:
            for media_type, part, count in _parts(path, order, order.max_pages - pages):
                media_types.add(media_type)
                parts.append(merging.Part(part, number, media_type != _PDF))
                pages += count
        except errors.OcrTasksError as error:
            raise _Rejected(number, error) from error
    target = order.folder / "input.pdf"
    if len(parts) == 1:
        parts[0].path.replace(target)
    else:
        warnings = merging.merge(parts, target)
    for path in {*(part.path for part in parts), *order.paths}:
        path.unlink(missing_ok=True)
    return {
        "pages": pages,
        "media_type": media_types.pop() if len(media_types) == 1 else "multipart/mixed",
        "warnings": warnings,
    }


def _parts(path: Path, order: Order, pages_left: int) -> Iterator[tuple[str, Path, int]]:
    """Yields media type, PDF and number of pages of each part of a file.

    A PDF has one part, images have one per page.
    """
    with path.open("rb") as file:
        head = file.read(1024)
    if not head:
        raise errors.EmptyFile()
    if b"%PDF-" in head:
        yield _PDF, path, check_pdf(path, order, pages_left)
        return
    from ocr_tasks.uploads import images

    pages = images.to_pdfs(path, order.image_dpi, partial(check_pixels, order), pages_left)
    for media_type, part in pages:
        yield media_type, part, 1


def check_pdf(path: Path, order: Order, pages_left: int) -> int:
    """Returns the number of pages of a PDF; raises an error if the PDF is not accepted."""
    try:
        with pikepdf.open(path, suppress_warnings=True) as pdf:
            return _check_document(pdf, order, pages_left)
    except pikepdf.PasswordError:
        raise errors.PdfEncrypted() from None
    except (errors.OcrTasksError, MemoryError, OSError):
        raise
    except Exception as error:  # any error of the parser means that the PDF is invalid
        raise errors.PdfInvalid() from error


def _check_document(pdf: pikepdf.Pdf, order: Order, pages_left: int) -> int:
    pages = len(pdf.pages)
    if pages == 0:
        raise errors.NoPages()
    if pages > pages_left:
        raise errors.TooManyPages(
            f"The document has more than {order.max_pages} pages", limit=order.max_pages
        )
    _check_form(pdf, order)
    for number, page in enumerate(pdf.pages, start=1):
        _check_page(number, page, order)
    return pages


def _check_form(pdf: pikepdf.Pdf, order: Order) -> None:
    if pdf.Root.get("/NeedsRendering", False):
        raise errors.PdfDynamicForm()
    form = pdf.Root.get("/AcroForm")
    # Bit 1 of SigFlags: the document holds a signature (PDF 32000-1, 12.7.2, table 219).
    if form is not None and int(form.get("/SigFlags", 0)) & 1 and not order.allow_signed:
        raise errors.PdfSigned()


def _check_page(number: int, page: pikepdf.Page, order: Order) -> None:
    left, bottom, right, top = (float(edge) for edge in page.mediabox)
    unit = float(page.obj.get("/UserUnit", 1))
    longest = max(abs(right - left), abs(top - bottom)) * unit / POINTS_PER_INCH
    if not longest <= order.max_page_inches:
        raise errors.PageTooLarge(
            f"Page {number} is {longest:.0f} inches long; the limit is {order.max_page_inches:g}"
        )
    for image in page.get_images().values():
        check_pixels(order, int(image.get("/Width", 0)), int(image.get("/Height", 0)))


def check_pixels(order: Order, width: int, height: int) -> None:
    """Raises ImageTooLarge if an image exceeds the limit. Called before the image is decoded."""
    if width * height > order.max_image_megapixels * 1_000_000:
        raise errors.ImageTooLarge(
            f"An image has {width} × {height} pixels; the limit is "
            f"{order.max_image_megapixels:g} million"
        )


if __name__ == "__main__":
    import ocr_tasks.uploads.images  # noqa: F401  # imported before the forks

    for extension in extensions.installed():
        for name in extension.check_modules:
            importlib.import_module(name)
    forkserver.serve(respond)
