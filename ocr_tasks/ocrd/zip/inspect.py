"""Checks a new workspace, in the sandboxed process of `uploads.inspect`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ocr_tasks.ocrd.zip import ocrd_zip


@dataclass(frozen=True, slots=True)
class BagOrder:
    """A workspace to check: the OCRD-ZIP `archive`, or a folder with the METS file `mets`.

    With `complete`, every file that the METS file references must exist.
    """

    folder: Path
    archive: str
    mets: str
    complete: bool
    max_bytes: int
    max_files: int
    max_mets_bytes: int
    reserve_bytes: int


def check(order: BagOrder) -> dict[str, Any]:
    """Checks a workspace, after unpacking it if it is an OCRD-ZIP.

    Returns `ocrd_zip.CheckedWorkspace` as a dict.
    """
    limits = ocrd_zip.Limits(
        order.max_bytes, order.max_files, order.max_mets_bytes, order.reserve_bytes
    )
    if order.archive:
        return asdict(ocrd_zip.unpack(order.folder / order.archive, order.folder, limits))
    pages = ocrd_zip.check(order.folder, order.mets, limits, order.complete)
    return asdict(ocrd_zip.CheckedWorkspace(order.mets, "", "", pages))
