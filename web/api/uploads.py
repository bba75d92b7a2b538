"""/v1/uploads: resumable uploads with the tus protocol 1.0.0.

https://tus.io/protocols/resumable-upload, with the extensions creation, creation-with-upload,
creation-defer-length, termination, checksum and expiration.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from flask import Flask, Response, request
from flask_openapi3 import APIBlueprint, Tag
from werkzeug.http import http_date

from ocr_tasks import errors, settings
from ocr_tasks.uploads import tus, tus_writer
from ocr_tasks.uploads.tus import ResumableUpload
from ocr_tasks.uploads.tus_writer import Checksum
from web.access import authentication
from web.http import streaming
from web.http.schemas import ProblemBody, UploadBody, UploadPath

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PREFIX = "/v1/uploads"

blueprint = APIBlueprint(
    "resumable",
    __name__,
    url_prefix=PREFIX,
    abp_tags=[Tag(name="Uploads", description="Resumable uploads of large files")],
    abp_responses={"default": ProblemBody},
)

_VERSION = "1.0.0"
_EXTENSIONS = "creation,creation-with-upload,creation-defer-length,termination,checksum,expiration"
_CHUNK_TYPE = "application/offset+octet-stream"

#: Bytes that are still read from a rejected chunk. On a slow connection, the rest would take hours.
_DRAIN_BYTES = 1024 * 1024

_NUMBER = re.compile(r"[0-9]{1,18}")
#: Comma-separated pairs of a key and an optional Base64 value.
_METADATA = re.compile(r"[!-+\--~]+( [A-Za-z0-9+/=]*)?(, ?[!-+\--~]+( [A-Za-z0-9+/=]*)?)*")
_METADATA_LENGTH = 4096

#: Metadata keys for the file name, in order of precedence.
_NAMES = ("filename", "name")


def install(app: Flask) -> None:
    """Applies X-HTTP-Method-Override before authorization, for requests to /v1/uploads."""
    inner = app.wsgi_app

    def overridden(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        method = environ.get("HTTP_X_HTTP_METHOD_OVERRIDE")
        path = environ.get("PATH_INFO", "")
        if method and (path == PREFIX or path.startswith(f"{PREFIX}/")):
            environ["REQUEST_METHOD"] = method.upper()
        return inner(environ, start)

    app.wsgi_app = overridden  # type: ignore[method-assign,assignment]  # Flask's documented way


@blueprint.before_request
def _check_version() -> None:
    # GET is not part of the protocol.
    if request.method not in ("GET", "OPTIONS"):
        version = request.headers.get("Tus-Resumable", "")
        if version != _VERSION:
            raise errors.TusVersionUnsupported(f"The version is {version[:20]!r}, not {_VERSION}")


@blueprint.after_request
def _complete(response: Response) -> Response:
    response.headers["Tus-Resumable"] = _VERSION
    response.headers["Cache-Control"] = "no-store"
    if request.method == "OPTIONS" or response.status_code == 412:
        response.headers["Tus-Version"] = _VERSION
    if request.method == "OPTIONS":
        response.headers["Tus-Extension"] = _EXTENSIONS
        response.headers["Tus-Max-Size"] = str(settings.get().max_upload_bytes)
        response.headers["Tus-Checksum-Algorithm"] = ",".join(tus_writer.CHECKSUMS)
    return response


@blueprint.post("", responses={201: None})
def create() -> Response:
    """Create a resumable upload.

    Uses the tus protocol 1.0.0. `Upload-Length` is the size of the file in bytes;
    `Upload-Defer-Length: 1` means that it is not known yet. `Upload-Metadata` may contain a
    `filename`. The request may contain the first chunk. The response contains the URL of the upload
    in `Location`.
    """
    try:
        caller = authentication.caller()
        length = _length(required=True)
        metadata, name = _metadata()
        first = bool(request.content_length) or "Transfer-Encoding" in request.headers
        if first:
            _check_type()
        max_open = caller.limit("open_uploads")
        upload = tus.create(caller.id, length, metadata, name, max_open)
        if first:
            upload = _first_chunk(upload)
    except errors.OcrTasksError:
        streaming.drain(request, _DRAIN_BYTES)
        raise
    response = Response(status=201)
    response.headers["Location"] = f"{PREFIX}/{upload.id}"
    _describe(response, upload)
    return response


def _first_chunk(upload: ResumableUpload) -> ResumableUpload:
    try:
        return _append(upload.id, 0, None)
    except errors.OcrTasksError:
        # The client does not know its URL.
        with suppress(errors.OcrTasksError):
            tus.delete(upload.id, None)
        raise


@blueprint.get("/<upload_id>", responses={200: UploadBody})
def show(path: UploadPath) -> Response:
    """Get the progress of an upload.

    HEAD returns the number of stored bytes in `Upload-Offset`, from where the client can resume. It
    ends a request that is still sending to this upload.
    """
    # A client that sends HEAD knows that its connection broke. The server may notice much later.
    read = tus.read if request.method == "GET" else tus.settle
    upload = read(path.upload_id, authentication.caller().sees)
    # With X-HTTP-Method-Override: HEAD, the response must not have a body either.
    body = UploadBody.of(upload).model_dump_json() if request.method == "GET" else ""
    response = Response(body, content_type="application/json")
    if upload.length is None:
        response.headers["Upload-Defer-Length"] = "1"
    else:
        response.headers["Upload-Length"] = str(upload.length)
    if upload.metadata:
        response.headers["Upload-Metadata"] = upload.metadata
    _describe(response, upload)
    return response


@blueprint.patch("/<upload_id>", responses={204: None})
def append(path: UploadPath) -> Response:
    """Send a chunk of an upload, starting at `Upload-Offset`.

    If the connection breaks, the received bytes are kept. With `Upload-Checksum` (sha1, sha256 or
    sha512), a chunk is only accepted if it is complete and the checksum matches. A new chunk ends a
    request that is still sending one.
    """
    try:
        _check_type()
        offset = _number("Upload-Offset")
        if offset is None:
            raise errors.MalformedRequest("The header Upload-Offset is missing")
        upload = _append(path.upload_id, offset, _length())
    except errors.OcrTasksError:
        streaming.drain(request, _DRAIN_BYTES)
        raise
    response = Response(status=204)
    _describe(response, upload)
    return response


@blueprint.delete("/<upload_id>", responses={204: None})
def delete(path: UploadPath) -> Response:
    """Delete an upload that was not used for a job."""
    tus.delete(path.upload_id, authentication.caller().sees)
    return Response(status=204)


def _append(upload_id: str, offset: int, length: int | None) -> ResumableUpload:
    sees = authentication.caller().sees
    text = request.headers.get("Upload-Checksum")
    checksum = None if text is None else Checksum.parse(text)
    size = request.content_length
    with (
        tus_writer.writing(upload_id, sees, offset, size, length, checksum) as writer,
        closing(streaming.chunks(request, writer.is_wanted)) as arriving,
    ):
        for chunk in arriving:
            writer.write(chunk)
    return tus.read(upload_id, sees)


def _describe(response: Response, upload: ResumableUpload) -> None:
    response.headers["Upload-Offset"] = str(upload.offset)
    response.headers["Upload-Expires"] = http_date(upload.expires)


# Request headers


def _check_type() -> None:
    if request.mimetype != _CHUNK_TYPE:
        raise errors.ContentTypeWrong(
            f"The Content-Type is {request.mimetype[:100]!r}, not {_CHUNK_TYPE}"
        )


def _number(header: str) -> int | None:
    text = request.headers.get(header)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise errors.MalformedRequest(f"{header} must be a number of bytes, not {text[:50]!r}")
    return int(text)


def _length(required: bool = False) -> int | None:
    """Returns the length of the upload in bytes; None: not known yet."""
    if "Upload-Concat" in request.headers:
        raise errors.MalformedRequest(
            "Uploads cannot be concatenated; submit several uploads as one job instead"
        )
    length, deferred = _number("Upload-Length"), request.headers.get("Upload-Defer-Length")
    if deferred not in (None, "1"):
        raise errors.MalformedRequest("Upload-Defer-Length must be 1")
    if required and (length is None) == (deferred is None):
        raise errors.MalformedRequest("Send either Upload-Length or Upload-Defer-Length: 1")
    return length


def _metadata() -> tuple[str, str]:
    """Returns the metadata as sent, and the file name in it, which is untrusted."""
    text = request.headers.get("Upload-Metadata", "")
    if not text:
        return "", ""
    if len(text) > _METADATA_LENGTH or not _METADATA.fullmatch(text):
        raise errors.MalformedRequest(
            "Upload-Metadata must be comma-separated pairs of a key and a Base64 value, "
            f"at most {_METADATA_LENGTH} characters in total"
        )
    pairs = [pair.strip().partition(" ")[::2] for pair in text.split(",")]
    values = dict(pairs)
    if len(values) < len(pairs):
        raise errors.MalformedRequest("Upload-Metadata has a key twice")
    try:
        decoded = {key: base64.b64decode(value, validate=True) for key, value in values.items()}
    except binascii.Error:
        raise errors.MalformedRequest("A value in Upload-Metadata is not valid Base64") from None
    names = (decoded[key].decode(errors="replace") for key in _NAMES if decoded.get(key))
    return text, next(names, "")
