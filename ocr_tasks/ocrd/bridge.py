"""Finds the images of a workspace's pages, for documents and for the built-in processor.

`results` adds the results of such a document to the workspace. Only PAGE documents are opened here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import mets_files, page_xml
from ocr_tasks.ocrd.mets.mets import File, Mets
from ocr_tasks.ocrd.mets.paths import is_url, path_error
from ocr_tasks.ocrd.model import Workspace

#: Maximum bytes of a PAGE document; that of a newspaper page has some megabytes.
_MOST_BYTES = 64 * 1024 * 1024

#: Media types of the images that PAGE documents reference, by suffix.
_MEDIA_TYPES = {
    **{".tif": "image/tiff", ".tiff": "image/tiff", ".png": "image/png", ".jpg": "image/jpeg"},
    **{".jpeg": "image/jpeg", ".jp2": "image/jp2", ".gif": "image/gif", ".bmp": "image/bmp"},
    **{".webp": "image/webp"},
}


def images(workspace: Workspace, group: str = "", page_id: str = "") -> list[tuple[str, Path, str]]:
    """Returns id, image path and media type of each selected page; `page_id` '' selects all.

    `page_id` has OCR-D's syntax. If a page has a PAGE document in the group, its image is the one
    that the document references as its own. Without a group, it is the first one with an image of
    each page, or else with an image or PAGE document of each page.
    """
    mets = mets_files.read(workspace.mets)
    pages = mets.resolve(page_id)
    if group and group not in mets.groups:
        raise ocrd_errors.FileGroupUnknown(f"METS has no file group {group!r:.200}")
    return images_of(workspace, mets, group or first_group(mets, pages), pages)


def images_of(
    workspace: Workspace, mets: Mets, group: str, pages: Iterable[str]
) -> list[tuple[str, Path, str]]:
    """Returns id, image path and media type of each of these pages, in this order."""
    return [(page, *_image(workspace.folder, mets, group, page)) for page in pages]


def first_group(mets: Mets, pages: Iterable[str]) -> str:
    """Returns the first group with images of all pages, else with images or PAGE documents."""
    page_set = set(pages)
    for kinds in (("image/",), ("image/", page_xml.MEDIA_TYPE)):
        for group in mets.groups:
            files = mets.files(group)
            if page_set <= {file.page for file in files if file.media_type.startswith(kinds)}:
                return group
    raise ocrd_errors.WorkspaceInvalid("No file group has images of all pages")


def page_file(mets: Mets, group: str, page: str) -> File | None:
    """Returns a page's PAGE document in a group, else its image; None if the group has neither."""
    files = mets.files(group, page)
    documents = [file for file in files if file.media_type == page_xml.MEDIA_TYPE]
    image_files = [file for file in files if file.media_type.startswith("image/")]
    found = documents or image_files
    if len(found) > 1:
        raise ocrd_errors.WorkspaceInvalid(
            f"The file group {group} has several files for the page {page}"
        )
    if files and not found:
        raise ocrd_errors.WorkspaceInvalid(f"{files[0].id} is neither PAGE-XML nor an image")
    return found[0] if found else None


def source(folder: Path, file: File) -> page_xml.Source:
    """Returns the images of a page: the file itself, or those that its PAGE document references."""
    if not file.local:
        raise ocrd_errors.WorkspaceInvalid(f"{file.href!r:.200} is not in the workspace")
    if file.media_type != page_xml.MEDIA_TYPE:
        return page_xml.Source(file.href)
    path = existing(folder, file.href)
    if path.stat().st_size > _MOST_BYTES:
        raise ocrd_errors.WorkspaceInvalid(f"{file.href!r:.200} is larger than {_MOST_BYTES} bytes")
    try:
        found = page_xml.read(path.read_bytes())
    except ValueError as error:
        raise ocrd_errors.WorkspaceInvalid(f"{file.href!r:.200}: {error}") from error
    if not found.image:
        raise ocrd_errors.WorkspaceInvalid(f"{file.href!r:.200} references no image")
    return found


def below(folder: Path, href: str) -> Path:
    """Returns the path of a file of the workspace, which need not exist.

    Raises ocrd_errors.WorkspaceInvalid if the path, with links resolved, is outside the workspace.
    """
    wrong = path_error(href) or ("URLs are not supported" if is_url(href) else "")
    path = folder / href
    if not wrong and not path.resolve().is_relative_to(folder.resolve()):
        wrong = "a link leads out of the workspace"
    if wrong:
        raise ocrd_errors.WorkspaceInvalid(f"{href!r:.200}: {wrong}")
    return path


def existing(folder: Path, href: str) -> Path:
    """Returns the path of an existing file of the workspace, like `below`."""
    path = below(folder, href)
    if not path.is_file():
        raise ocrd_errors.WorkspaceInvalid(f"{href!r:.200} does not exist")
    return path


def _image(folder: Path, mets: Mets, group: str, page: str) -> tuple[Path, str]:
    file = page_file(mets, group, page)
    if file is None:
        raise ocrd_errors.WorkspaceInvalid(
            f"The file group {group} has no image of the page {page}"
        )
    href = source(folder, file).image
    media_type = file.media_type
    if media_type == page_xml.MEDIA_TYPE:
        media_type = _MEDIA_TYPES.get(Path(href).suffix.lower(), "application/octet-stream")
    return existing(folder, href), media_type


class OutputIds:
    """Chooses ids for the files of pages that METS does not contain yet."""

    def __init__(self, mets: Mets) -> None:
        self._mets = mets
        self._taken = {file.id for file in mets.files()}

    def of(self, group: str, page: str, media_type: str) -> str:
        """Returns the id of the file of this media type that shows the page in the group.

        If there is none, returns a new unique id.
        """
        for file in self._mets.files(group, page):
            if file.media_type == media_type:
                return file.id
        file_id = f"{group}_{page}"
        while file_id in self._taken:
            file_id += "_"
        self._taken.add(file_id)
        return file_id
