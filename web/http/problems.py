"""Errors as problem documents (RFC 9457), and the table of HTTP status codes."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import cache
from typing import Any, NoReturn

from flask import Flask, Response, request
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from werkzeug.exceptions import HTTPException

from ocr_tasks import errors
from web import extensions

log = logging.getLogger("web")

#: HTTP status of each error of the core that can be a response. The error of a failed *job* is part
#: of the job, which is sent with status 200.
_STATUS: Mapping[type[errors.OcrTasksError], int] = {
    errors.MalformedRequest: 400,
    errors.MissingFile: 400,
    errors.MissingParameter: 400,
    errors.InvalidParameter: 400,
    errors.UnsupportedMediaType: 415,
    errors.ModelNotFound: 404,
    errors.SourceDownloadFailed: 422,
    errors.TooSlow: 408,
    errors.UnsupportedEncoding: 415,
    errors.NotAuthenticated: 401,
    errors.ScopeMissing: 403,
    errors.AddressRefused: 403,
    errors.HostRefused: 400,
    errors.CrossSite: 403,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.RangeNotSatisfiable: 416,
    errors.TooManyFiles: 413,
    errors.UploadTooLarge: 413,
    errors.UnsupportedType: 415,
    errors.TiffCompressionUnsupported: 415,
    errors.UploadNotFound: 404,
    errors.UploadExpired: 410,
    errors.UploadAlreadyUsed: 410,
    errors.UploadUnfinished: 409,
    errors.UploadBusy: 423,
    errors.OffsetMismatch: 409,
    errors.ChecksumMismatch: 460,  # defined by the tus protocol
    errors.ContentTypeWrong: 415,
    errors.TusVersionUnsupported: 412,
    errors.EmptyFile: 422,
    errors.PdfInvalid: 422,
    errors.PdfEncrypted: 422,
    errors.PdfSigned: 422,
    errors.PdfDynamicForm: 422,
    errors.NoPages: 422,
    errors.TooManyPages: 422,
    errors.PageTooLarge: 422,
    errors.ImageTooLarge: 422,
    errors.ImageInvalid: 422,
    errors.CheckFailed: 422,
    errors.IdempotencyMismatch: 422,
    errors.CallbackRefused: 422,
    errors.NoWebhook: 409,
    errors.InvalidOptions: 422,
    errors.LanguageUnavailable: 422,
    errors.JobNotFound: 404,
    errors.JobDeleted: 410,
    errors.JobNotFinished: 409,
    errors.JobWithoutResult: 409,
    errors.JobEnded: 409,
    errors.JobNotRetryable: 409,
    errors.ArtifactNotFound: 404,
    errors.ResultGone: 410,
    errors.PageNotFound: 404,
    errors.PageNotReady: 409,
    errors.Internal: 500,
    errors.ResultCorrupt: 500,
    errors.QueueFull: 503,
    errors.LimitReached: 429,
    errors.TooManyConnections: 503,
    errors.ServerStopping: 503,
    errors.QueueUnavailable: 503,
    errors.RedisFull: 503,
    errors.StorageFull: 507,
    errors.StorageUnavailable: 503,
}

#: Errors for statuses raised by Werkzeug and Flask.
_BY_STATUS: Mapping[int, type[errors.OcrTasksError]] = {
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.UploadTooLarge,
    416: errors.RangeNotSatisfiable,
}

#: WWW-Authenticate of each 401 (RFC 6750, section 3).
_CHALLENGE = 'Bearer realm="OCR Tasks"'

#: Retry-After in seconds, for results that are not ready yet.
_SOON = 2


@cache
def statuses() -> Mapping[type[errors.OcrTasksError], int]:
    """Returns the HTTP status of each error that can be a response, with those of extensions."""
    return {**_STATUS, **{k: v for one in extensions.installed() for k, v in one.statuses.items()}}


def install(app: Flask) -> None:
    """Sends every error of an application as a problem document."""
    app.register_error_handler(errors.OcrTasksError, respond)
    app.register_error_handler(HTTPException, _respond_http)
    app.register_error_handler(Exception, _respond_unexpected)


def respond(error: errors.OcrTasksError, status: int | None = None) -> Response:
    """Returns the response for an error. `status` overrides the table if a protocol requires it."""
    status = status or statuses()[type(error)]
    if isinstance(error, errors.ResultCorrupt):
        log.error("%r: %s", request.path, error)
    body: dict[str, Any] = {
        "type": f"/docs#error-{error.code}",
        "title": error.title,
        "status": status,
        "detail": error.detail,
        "instance": request.path,
        "code": error.code,
        "advice": error.advice,
        "retryable": error.retryable,
        **error.extra,
    }
    response = Response(
        json.dumps(body, ensure_ascii=False), status, content_type="application/problem+json"
    )
    response.headers["Cache-Control"] = "no-store"
    if isinstance(error, errors.NotAuthenticated):
        response.headers["WWW-Authenticate"] = _CHALLENGE
    if isinstance(error, errors.ServiceError) and error.retryable:
        response.headers["Retry-After"] = str(error.retry_after)
    elif error.retryable:
        response.headers["Retry-After"] = str(_SOON)
    return response


def validation_failed(error: ValidationError) -> NoReturn:
    """Raises `MalformedRequest` for a query, path or body that does not match its model."""
    rows = [
        {"pointer": "#/" + "/".join(map(str, row["loc"])), "detail": _message(row)}
        for row in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    detail = "; ".join(f"{row['pointer'][2:] or 'body'}: {row['detail']}" for row in rows)
    raise errors.MalformedRequest(detail, errors=rows) from error


def _message(row: ErrorDetails) -> str:
    # pydantic's message has the name of our class.
    return "Input should be a JSON object" if row["type"] == "model_type" else row["msg"]


def of_http(error: HTTPException) -> errors.OcrTasksError:
    """Returns the service's error for an exception of Werkzeug or Flask."""
    known = _BY_STATUS.get(error.code or 500)
    if known is None:
        known = errors.MalformedRequest if (error.code or 500) < 500 else errors.Internal
    return known("" if known is errors.Internal else error.description or "")


def headers_of(error: HTTPException) -> list[tuple[str, str]]:
    """Returns the headers of such an exception that the response must keep."""
    return [row for row in error.get_headers() if row[0] in ("Allow", "Content-Range")]


def of_unexpected(error: Exception) -> errors.Internal:
    """Logs an unexpected exception; returns an internal error without details for the client."""
    log.exception("%s %r failed", request.method, request.path, exc_info=error)
    return errors.Internal()


def _respond_http(error: HTTPException) -> Response:
    if error.code and error.code < 400:
        return error.get_response()  # type: ignore[return-value]  # a redirect
    response = respond(of_http(error))
    response.headers.extend(headers_of(error))
    return response


def _respond_unexpected(error: Exception) -> Response:
    return respond(of_unexpected(error))
