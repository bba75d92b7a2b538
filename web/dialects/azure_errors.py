"""Errors in the format of Azure Document Intelligence, with the service's own code inside.

    {"error": {"code": "InvalidRequest", "message": "…",
               "innererror": {"code": "InvalidContent", "message": "…",
                              "innererror": {"code": "pdf_invalid", "message": "…"}}}}

Azure's codes and their statuses: https://learn.microsoft.com/azure/ai-services/document-intelligence/v3-error-guide
Numeric codes are those of Azure's gateway.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from flask import Response
from flask_openapi3 import APIBlueprint
from werkzeug.exceptions import HTTPException

from ocr_tasks import errors
from ocr_tasks.model import Failure
from web.http import problems

#: Outer code and Azure's status, by the status of the error in the service's own API.
_BY_STATUS: Mapping[int, tuple[str, int]] = {
    400: ("InvalidRequest", 400),
    401: ("401", 401),
    403: ("Forbidden", 403),
    404: ("NotFound", 404),
    405: ("MethodNotAllowed", 405),
    408: ("InvalidRequest", 400),
    409: ("Conflict", 409),
    410: ("NotFound", 404),
    413: ("InvalidRequest", 400),
    415: ("InvalidRequest", 400),
    416: ("InvalidRequest", 416),
    422: ("InvalidRequest", 400),
    429: ("429", 429),
    500: ("InternalServerError", 500),
    503: ("ServiceUnavailable", 503),
    507: ("ServiceUnavailable", 503),
}

#: Exceptions from `_BY_STATUS`.
_OUTER: Mapping[type[errors.OcrTasksError], tuple[str, int]] = {
    errors.NotFound: ("404", 404),
    errors.UnsupportedMediaType: ("UnsupportedMediaType", 415),
    errors.UnsupportedEncoding: ("UnsupportedMediaType", 415),
    errors.MissingParameter: ("InvalidArgument", 400),
    errors.InvalidParameter: ("InvalidArgument", 400),
    errors.InvalidOptions: ("InvalidArgument", 400),
    errors.LanguageUnavailable: ("InvalidArgument", 400),
}

_INNER: Mapping[type[errors.OcrTasksError], str] = {
    errors.ScopeMissing: "AuthorizationFailed",
    errors.MissingParameter: "ParameterMissing",
    errors.InvalidParameter: "InvalidParameter",
    errors.InvalidOptions: "InvalidParameter",
    errors.LanguageUnavailable: "InvalidParameter",
    errors.UploadTooLarge: "InvalidContentLength",
    errors.TooManyPages: "InvalidContentLength",
    errors.ImageTooLarge: "InvalidContentDimensions",
    errors.PageTooLarge: "InvalidContentDimensions",
    errors.UnsupportedType: "InvalidContent",
    errors.TiffCompressionUnsupported: "InvalidContent",
    errors.EmptyFile: "InvalidContent",
    errors.PdfInvalid: "InvalidContent",
    errors.ImageInvalid: "InvalidContent",
    errors.NoPages: "InvalidContent",
    errors.CheckFailed: "InvalidContent",
    errors.PdfEncrypted: "UnsupportedContent",
    errors.PdfDynamicForm: "UnsupportedContent",
    errors.SourceDownloadFailed: "ContentSourceNotAccessible",
    errors.TooSlow: "ContentSourceTimeout",
    errors.ModelNotFound: "ModelNotFound",
    errors.JobNotFound: "OperationNotFound",
    errors.JobDeleted: "OperationNotFound",
    errors.ResultGone: "OperationNotFound",
    errors.ArtifactNotFound: "OutputOptionNotFound",
    # Errors of failed jobs
    errors.InputUnsupported: "UnsupportedContent",
    errors.JobFileTooLarge: "InvalidContentLength",
    errors.JobOutOfMemory: "InvalidContentDimensions",
}

#: Advice that differs from that of the service's own API.
_ADVICE: Mapping[type[errors.OcrTasksError], str] = {
    errors.NotAuthenticated: (
        "Send a token as the key, in Ocp-Apim-Subscription-Key. Create one with "
        "`ocr-tasks tokens create`, with the scopes submit and read."
    ),
}


def install(blueprint: APIBlueprint) -> None:
    """Sends all errors of a blueprint in Azure's format."""
    blueprint.register_error_handler(errors.OcrTasksError, _respond)
    blueprint.register_error_handler(HTTPException, _respond_http)
    blueprint.register_error_handler(Exception, _respond_unexpected)


def of_failure(failure: Failure) -> dict[str, object]:
    """Returns the error object of a failed job."""
    kind = errors.by_code().get(failure.code, errors.Internal)
    if kind is errors.JobCancelled:
        return _error("OperationCanceled", kind, failure.message)
    outer = "InvalidRequest" if kind in _INNER else "InternalServerError"
    return _error(outer, kind, failure.message)


def _error(outer: str, kind: type[errors.OcrTasksError], detail: str) -> dict[str, object]:
    inner: dict[str, object] = {"code": kind.code, "message": _ADVICE.get(kind, kind.advice)}
    if kind in _INNER:
        inner = {"code": _INNER[kind], "message": f"{kind.title}.", "innererror": inner}
    return {"code": outer, "message": detail, "innererror": inner}


def _respond(error: errors.OcrTasksError) -> Response:
    kind = type(error)
    outer, status = _OUTER.get(kind) or _BY_STATUS[problems.statuses()[kind]]
    # The problem document has the same headers.
    response = problems.respond(error, status)
    response.set_data(json.dumps({"error": _error(outer, kind, error.detail)}, ensure_ascii=False))
    response.content_type = "application/json"
    return response


def _respond_http(error: HTTPException) -> Response:
    if error.code and error.code < 400:
        return error.get_response()  # type: ignore[return-value]  # a redirect
    response = _respond(problems.of_http(error))
    response.headers.extend(problems.headers_of(error))
    return response


def _respond_unexpected(error: Exception) -> Response:
    return _respond(problems.of_unexpected(error))
