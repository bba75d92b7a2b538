"""References to workspaces in requests and responses."""

from __future__ import annotations

from flask import request

from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import workspaces
from ocr_tasks.ocrd.model import Workspace
from web.access import authentication
from web.ocrd.blueprints import PREFIX


def workspace(path_to_mets: str | None, workspace_id: str | None) -> Workspace:
    """Returns the client's workspace with this METS path or id; exactly one must be set."""
    if bool(path_to_mets) == bool(workspace_id):
        raise ocrd_errors.ProcessingInvalid(
            "Send either the path of a METS file or a workspace_id, not both"
        )
    if path_to_mets:
        return workspaces.find(path_to_mets, authentication.caller().sees)
    return workspaces.read(workspace_id or "", authentication.caller().sees)


def address(found: Workspace) -> str:
    """Returns the URL of a workspace, with the host name that the client uses."""
    return f"{request.host_url.rstrip('/')}{PREFIX}/workspace/{found.id}"
