"""Errors in the shape of Azure Document Intelligence, with our code inside.

    {"error": {"code": "InvalidRequest", "message": "…",
               "innererror": {"code": "InvalidContent", "message": "…",
                              "innererror": {"code": "pdf_invalid", "message": "…"}}}}

Its codes, and what status goes with which: https://learn.microsoft.com/azure/ai-services/document-intelligence/v3-error-guide
Those in digits are of the gateway in front of it.
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

#: The outer code by the status that an error has elsewhere, and the status that goes with it here.
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

#: Errors that say more than their status does.
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
    errors.EmptyFile: "InvalidContent",
    errors.PdfInvalid: "InvalidContent",
    errors.ImageInvalid: "InvalidContent",
    errors.NoPages: "InvalidContent",
    errors.CheckFailed: "InvalidContent",
    errors.PdfEncrypted: "UnsupportedContent",
    errors.PdfDynamicForm: "UnsupportedContent",
    errors.SourceNotFetched: "ContentSourceNotAccessible",
    errors.TooSlow: "ContentSourceTimeout",
    errors.ModelNotFound: "ModelNotFound",
    errors.JobNotFound: "OperationNotFound",
    errors.JobDeleted: "OperationNotFound",
    errors.ResultGone: "OperationNotFound",
    errors.ArtifactNotFound: "OutputOptionNotFound",
    # Of a job that failed.
    errors.InputUnsupported: "UnsupportedContent",
    errors.JobFileTooLarge: "InvalidContentLength",
    errors.JobOutOfMemory: "InvalidContentDimensions",
}

#: What to do about errors where it is not what the others are told.
_ADVICE: Mapping[type[errors.OcrTasksError], str] = {
    errors.NotAuthenticated: (
        "The key, in Ocp-Apim-Subscription-Key, is a token: the operator makes one with "
        "`ocr-tasks tokens create`, with the scopes submit and read."
    ),
}


def install(blueprint: APIBlueprint) -> None:
    """Has every error of the addresses of a blueprint answered in this shape."""
    blueprint.register_error_handler(errors.OcrTasksError, _respond)
    blueprint.register_error_handler(HTTPException, _respond_http)
    blueprint.register_error_handler(Exception, _respond_unexpected)


def of_failure(failure: Failure) -> dict[str, object]:
    """Why a job failed."""
    kind = errors.by_code().get(failure.code, errors.Internal)
    if kind is errors.JobCancelled:
        return _error("OperationCanceled", kind, failure.message)
    outer = "InvalidRequest" if kind in _INNER else "InternalServerError"
    return _error(outer, kind, failure.message)


def _error(outer: str, kind: type[errors.OcrTasksError], detail: str) -> dict[str, object]:
    told: dict[str, object] = {"code": kind.code, "message": _ADVICE.get(kind, kind.advice)}
    if kind in _INNER:
        told = {"code": _INNER[kind], "message": f"{kind.title}.", "innererror": told}
    return {"code": outer, "message": detail, "innererror": told}


def _respond(error: errors.OcrTasksError) -> Response:
    kind = type(error)
    outer, status = _OUTER.get(kind) or _BY_STATUS[problems.STATUS[kind]]
    # The problem document of the same error has the right headers already.
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
    return _respond(problems.of_unexpected(error))  # the last net
