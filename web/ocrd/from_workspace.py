"""Makes a document of the images of an OCR-D workspace, where a form names one, not files."""

from __future__ import annotations

import shutil
from dataclasses import replace

from ocr_tasks import errors
from ocr_tasks.model import WorkspacePages
from ocr_tasks.ocrd import bridge, workspaces
from ocr_tasks.options import JobOptions
from ocr_tasks.storage import layout, store
from ocr_tasks.uploads import receive

#: The fields of the form: a workspace's id, the group of its images, and which of its pages.
FIELDS = ("workspace", "workspace_group", "page_id")


def take(
    incoming: receive.Incoming, form: dict[str, list[str]], owner: str | None
) -> WorkspacePages | None:
    """Copies the images that the form asks for; its fields for that are taken out of it."""
    asked = {name: form.pop(name) for name in FIELDS if name in form}
    if not asked:
        return None
    if "workspace" not in asked or incoming.names or any(len(v) > 1 for v in asked.values()):
        raise errors.MalformedRequest(
            "send either files, or `workspace` with its id; workspace_group and page_id go with it"
        )
    workspace_id, group, page_id = (asked.get(name, [""])[0] for name in FIELDS)
    workspace = workspaces.read(workspace_id, owner)
    found = bridge.images(workspace, group, page_id)
    for _, path, _ in found:
        with layout.failures(), path.open("rb") as image:
            shutil.copyfileobj(image, incoming.open(path.name))
    return WorkspacePages(workspace.id, group, tuple(page for page, _, _ in found))


def check(chosen: JobOptions, pages: WorkspacePages | None) -> None:
    """Makes sure that what is read can be given back to the workspace."""
    for name in ("deskew", "pages"):
        if pages and getattr(chosen, name):
            raise errors.InvalidOptions(f"{name} does not go with a workspace")


def received(document: receive.Received, pages: WorkspacePages | None) -> receive.Received:
    """The document with the pages of the workspace that it was made of."""
    if pages is None:
        return document
    if document.input.pages != len(pages.pages):
        store.get().delete(document.job_id)
        raise errors.WorkspaceInvalid("an image of the workspace has several pages")
    return replace(document, input=replace(document.input, workspace=pages))
