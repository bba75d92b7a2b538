"""Creates documents from the images of an OCR-D workspace that a form names instead of files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace

from ocr_tasks import errors
from ocr_tasks.model import WorkspacePages
from ocr_tasks.ocrd import bridge, workspaces
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.options import JobOptions
from ocr_tasks.storage import layout, store
from ocr_tasks.uploads import receive
from web.extensions import DocumentSource

#: Form fields: the workspace's id, the file group of its images, and its pages.
FIELDS = ("workspace", "workspace_group", "page_id")


@dataclass(frozen=True)
class WorkspaceSource(DocumentSource):
    """The pages of a workspace whose images form the document."""

    pages: WorkspacePages

    def __str__(self) -> str:
        return str(self.pages)  # as in earlier versions, for requests that are repeated

    def check(self, options: JobOptions) -> None:
        for name in ("deskew", "pages"):
            if getattr(options, name):
                raise errors.InvalidOptions(f"{name} cannot be used with a workspace")

    def attach(self, document: receive.Received) -> receive.Received:
        if document.input.pages != len(self.pages.pages):
            store.get().delete(document.job_id)
            raise ocrd_errors.WorkspaceInvalid("An image of the workspace has several pages")
        return replace(document, input=replace(document.input, workspace=self.pages))


def copy_images(
    incoming: receive.Upload, form: dict[str, list[str]], owner: str | None
) -> WorkspaceSource | None:
    """Copies the images of the workspace that a form selects; removes its fields from the form.

    Returns the source, or None if the form names no workspace.
    """
    fields = {name: form.pop(name) for name in FIELDS if name in form}
    if not fields:
        return None
    if "workspace" not in fields or incoming.names or any(len(v) > 1 for v in fields.values()):
        raise errors.MalformedRequest(
            "Send either files, or `workspace` with an id; workspace_group and page_id are for "
            "workspaces only"
        )
    workspace_id, group, page_id = (fields.get(name, [""])[0] for name in FIELDS)
    workspace = workspaces.read(workspace_id, owner)
    images = bridge.images(workspace, group, page_id)
    for _, path, _ in images:
        with layout.storage_errors(), path.open("rb") as image:
            shutil.copyfileobj(image, incoming.open(path.name))
    pages = tuple(page for page, _, _ in images)
    return WorkspaceSource(WorkspacePages(workspace.id, group, pages))
