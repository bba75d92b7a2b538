"""Workspaces: upload as an OCRD-ZIP, import from a METS URL, download as an OCRD-ZIP."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

from flask import Response, request
from pydantic import ValidationError

from ocr_tasks import errors
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import settings as ocrd_settings
from ocr_tasks.ocrd import workspaces
from ocr_tasks.ocrd.model import Workspace
from ocr_tasks.uploads import receive
from web.access import authentication
from web.http import problems, streaming
from web.ocrd import blueprints
from web.ocrd.blueprints import json_response
from web.ocrd.bodies import ImportBody, ImportQuery, WorkspaceBody, WorkspaceList, WorkspacePath

blueprint = blueprints.make("workspaces", "METS files with the files they reference")


@blueprint.errorhandler(ocrd_errors.FileGroupUnknown)
def _group_unknown(error: errors.OcrTasksError) -> Response:
    # OCR-D's status for a workspace that cannot be created.
    return problems.respond(error, 400)


MEDIA_TYPE = "application/vnd.ocrd+zip"
_ZIP_TYPES = (MEDIA_TYPE, "application/zip", "application/octet-stream", "")
_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_FIELD = "workspace"


def _archive(*, by_url: bool) -> dict[str, Any]:
    """Returns the OpenAPI request body with a workspace; `by_url`: or with a METS URL."""
    file = {"type": "string", "format": "binary"}
    form: dict[str, Any] = {"type": "object", "properties": {_FIELD: file}}
    content: dict[str, Any] = {
        MEDIA_TYPE: {"schema": file},
        "multipart/form-data": {"schema": form},
    }
    if by_url:
        content["application/json"] = {"schema": ImportBody.model_json_schema()}
    return {"content": content, "required": True}


@blueprint.get("/workspace", responses={200: WorkspaceList})
def index() -> Response:
    """List workspaces."""
    rows = [WorkspaceBody.of(found) for found in workspaces.listed(authentication.caller().sees)]
    return json_response(WorkspaceList(rows))


@blueprint.post(
    "/workspace",
    responses={201: WorkspaceBody},
    openapi_extensions={"requestBody": _archive(by_url=True)},
)
def create() -> Response:
    """Create a workspace from an OCRD-ZIP or a METS URL.

    The ZIP is the body, or a file in the form field `workspace`. The URL is `mets_url` in JSON or
    in a form.
    """
    return json_response(WorkspaceBody.of(_take(None)), 201)


@blueprint.post("/import_external_workspace", responses={201: WorkspaceBody})
def import_external(query: ImportQuery) -> Response:
    """Create a workspace from a METS URL and the files that the METS file references."""
    authentication.caller().spend("submits_minute")
    source = ImportBody.model_validate(query, from_attributes=True)
    return json_response(WorkspaceBody.of(_fetch(source)), 201)


@blueprint.put(
    "/workspace/<workspace_id>",
    responses={200: WorkspaceBody},
    openapi_extensions={"requestBody": _archive(by_url=False)},
)
def replace(path: WorkspacePath) -> Response:
    """Replace a workspace with an OCRD-ZIP, or create one with this id."""
    return json_response(WorkspaceBody.of(_take(path.workspace_id)))


@blueprint.get("/workspace/<workspace_id>", responses={200: WorkspaceBody})
def show(path: WorkspacePath) -> Response:
    """Download a workspace as an OCRD-ZIP, or describe it with `Accept: application/json`."""
    found = workspaces.read(path.workspace_id, authentication.caller().sees)
    response = json_response(WorkspaceBody.of(found)) if _prefers_json() else _packed(found)
    response.vary.add("Accept")
    return response


@blueprint.delete("/workspace/<workspace_id>", responses={200: WorkspaceBody})
def delete(path: WorkspacePath) -> Response:
    """Delete a workspace that no job uses."""
    return json_response(
        WorkspaceBody.of(workspaces.delete(path.workspace_id, authentication.caller().sees))
    )


def _take(workspace_id: str | None) -> Workspace:
    """Receives the workspace in the request, as a new one or replacing `workspace_id`."""
    upload = cast("streaming.UploadRequest", request)
    caller = authentication.caller()
    limits = receive.Limits(ocrd_settings.get().ocrd_max_bytes, 1)
    with streaming.cleaning_up(upload):
        caller.spend("submits_minute")
        if upload.mimetype in _ZIP_TYPES:
            incoming = streaming.read_body(upload, limits)
        elif upload.mimetype == "multipart/form-data":
            incoming, form = streaming.read(upload, _FIELD, limits)
            if not incoming.names and workspace_id is None:
                return _fetch(_parse({name: values[-1] for name, values in form.items()}))
        elif workspace_id is None:
            return _fetch(_parse(_fields(upload)))
        else:
            raise ocrd_errors.WorkspaceInvalid(
                f"The file has the type {upload.mimetype[:100]!r}, not {MEDIA_TYPE}"
            )
        if not incoming.names:
            raise ocrd_errors.WorkspaceInvalid(f"The form has no file in the field `{_FIELD}`")
        incoming.close()
        caller.check()  # the upload may have taken hours
        return workspaces.receive(incoming.folder, incoming.path(1), caller.id, workspace_id)


def _fields(upload: streaming.UploadRequest) -> Any:
    if upload.mimetype in _FORMS:
        return upload.form.to_dict()
    found = upload.get_json(silent=True)
    if found is None:
        raise ocrd_errors.WorkspaceInvalid(
            f"The body is neither {MEDIA_TYPE} nor a form nor JSON with a `mets_url`"
        )
    return found


def _parse(fields: Any) -> ImportBody:
    try:
        return ImportBody.model_validate(fields)
    except ValidationError as error:
        problems.validation_failed(error)


def _fetch(source: ImportBody) -> Workspace:
    groups = source.preserve_file_grps
    chosen: Sequence[str] | None = groups.split(",") if isinstance(groups, str) else groups
    names = [name.strip() for name in chosen or () if name.strip()]
    basename = source.mets_basename or "mets.xml"
    return workspaces.fetch(source.mets_url, authentication.caller().id, names or None, basename)


def _prefers_json() -> bool:
    """Returns whether the client accepts JSON and prefers it to the ZIP.

    Parameters are ignored: OCR-D's client sends JSON with a charset.
    """
    weights = {name.partition(";")[0].strip(): q for name, q in reversed(request.accept_mimetypes)}
    return float(weights.get("application/json", 0)) > float(weights.get(MEDIA_TYPE, 0))


def _packed(found: Workspace) -> Response:
    chunks = workspaces.pack(found)
    # The first chunk is created before the response starts, so that an error still sets the status.
    first = list(itertools.islice(chunks, 1))
    response = Response(itertools.chain(first, chunks), content_type=MEDIA_TYPE)
    response.headers.set("Content-Disposition", "attachment", filename=f"{found.id}.ocrd.zip")
    response.headers["Cache-Control"] = "no-store"
    return response
