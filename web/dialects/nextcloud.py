"""An OCR backend for Nextcloud's app Workflow OCR.

Compatible with https://github.com/R0Wi-DEV/workflow_ocr_backend (`app.py`, `ocrservice.py`) and its
only client, https://github.com/R0Wi-DEV/workflow_ocr (`ApiClient.php`), which supports only the
statuses 200 and 500. Nextcloud's interface for external apps is defined by
https://github.com/nextcloud/app_api (`AppAPIService.php`):

- a heartbeat without a token
- `/init`: after 501, Nextcloud continues at once; after 200, it would wait for a callback
- `/enabled`: Nextcloud checks the response for `error`

Requests contain `AUTHORIZATION-APP-API: base64(user:secret)`. The secret is a token of the service
(see `request_origin`).
"""

from __future__ import annotations

import base64
import codecs
import json
from collections.abc import Iterable, Iterator
from typing import cast

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag

from ocr_tasks import errors, settings
from ocr_tasks.jobs import worker_registry
from ocr_tasks.model import Job, State
from ocr_tasks.options import JobOptions
from ocr_tasks.uploads import receive
from web.api import events, submission
from web.dialects import ocrmypdf_args
from web.http import access_log, downloads, streaming
from web.http.forms import file_form
from web.http.responses import json_response

blueprint = APIBlueprint(
    "nextcloud", __name__, abp_tags=[Tag(name="Nextcloud", description="OCR backend")]
)

#: OCRmyPDF's exit code (ocrmypdf.exceptions.ExitCode) for each error type; other errors have that
#: of their base class. The client ignores 6 if it skips files with text, and 2 and 8 if configured.
_EXIT_CODES: dict[type[errors.OcrTasksError], int] = {
    errors.OptionsError: 1,
    errors.MalformedRequest: 1,
    errors.UploadError: 2,
    errors.InputUnsupported: 2,
    errors.LanguageUnavailable: 3,
    errors.ToolMissing: 3,
    errors.OutputInvalid: 4,
    errors.StorageFull: 5,
    errors.StorageUnavailable: 5,
    errors.JobStorageFull: 5,
    errors.JobStorageError: 5,
    errors.PriorText: 6,
    errors.ToolFailed: 7,
    errors.PdfEncrypted: 8,
    errors.JobCancelled: 130,
    errors.OcrTasksError: 15,
}

#: Advice that differs from that of the service's own API.
_ADVICE: dict[type[errors.OcrTasksError], str] = {
    errors.NotAuthenticated: "Register the app in Nextcloud with a token as its secret. Create one "
    "with `ocr-tasks tokens create`.",
    errors.InvalidOptions: "Correct the custom CLI arguments in Nextcloud's flow.",
    errors.LanguageUnavailable: "Choose another language in Nextcloud's flow, or ask the "
    "administrator to install it.",
    errors.PdfSigned: "Add --invalidate-digital-signatures if the signature may be lost.",
    errors.PriorText: "Choose another OCR mode in Nextcloud's flow: --skip-text keeps such pages, "
    "--redo-ocr replaces the text of an earlier OCR, --force-ocr converts them to images.",
    errors.JobCancelled: "Run the flow again.",
}

#: Error statuses that the original backend also uses. With others, the client ignores the body.
_KEPT_STATUSES = (401, 403)

#: nginx's status for a connection closed by the client. It only appears in the log.
_CLIENT_LEFT = 499

_FIELD = "ocrmypdf_parameters"

_FORM = file_form(_FIELD, "OCRmyPDF's arguments, e.g. `--skip-text --language deu+eng`.")


@blueprint.after_request
def _in_its_shape(response: Response) -> Response:
    """Sends all errors in the format that the client supports."""
    if response.mimetype == "application/problem+json":
        problem = json.loads(response.get_data())
        kind = errors.by_code()[problem["code"]]
        _refuse(response, kind, problem["detail"])
        if response.status_code not in _KEPT_STATUSES:
            response.status_code = 500
    return response


@blueprint.post("/process_ocr", openapi_extensions={"requestBody": _FORM})
def process() -> Response:
    """Run OCR on a document and wait for the result.

    `ocrmypdf_parameters` contains arguments of OCRmyPDF. The response contains the text, and the
    PDF as Base64. If the client closes the connection, the job is cancelled.
    """
    access_log.mark_as_waiting()
    upload = cast("streaming.UploadRequest", request)
    with events.waiting_slot() as may_wait:
        with submission.admitting(upload) as caller:
            if not may_wait:
                raise errors.TooManyConnections()
            limits = receive.Limits(settings.get().max_upload_bytes, files=1)
            incoming, form = streaming.read(upload, limits=limits)
            job = submission.submit(caller, incoming, _options(form), reuse=False)
        ended = events.wait_or_cancel(job, request)
    if ended is None:
        return Response(status=_CLIENT_LEFT)
    return _succeeded(ended) if ended.state is State.SUCCEEDED else _failed(ended)


@blueprint.get("/installed_languages")
def installed_languages() -> Response:
    """List the codes of the installed languages."""
    return json_response(worker_registry.languages())


@blueprint.get("/heartbeat")
def heartbeat() -> Response:
    """Check whether the server is alive."""
    return json_response({"status": "ok"})


@blueprint.post("/init")
def initialise() -> Response:
    """Initialize the app: 501, which makes Nextcloud continue at once."""
    return Response(status=501)


@blueprint.put("/enabled")
def enable() -> Response:
    """Enable or disable the app, which has no effect here."""
    return json_response({"error": ""})


def _options(form: dict[str, list[str]]) -> JobOptions:
    if form.keys() - {_FIELD}:
        raise errors.MalformedRequest(f"The only field in addition to `file` is `{_FIELD}`")
    sent = form.get(_FIELD, [""])
    if len(sent) > 1:
        raise errors.MalformedRequest(f"The field `{_FIELD}` was sent more than once")
    # The client is waiting, with a timeout, and the response contains the text.
    return ocrmypdf_args.parse(sent[0], priority="interactive", sidecar=True)


# Responses


def _succeeded(job: Job) -> Response:
    """Streams the result, with memory use independent of the document's size."""
    _, text = downloads.open_result(job, "text")
    _, pdf = downloads.open_result(job, "pdf")
    head = json.dumps({"filename": job.input.name, "contentType": "application/pdf"})

    def written() -> Iterator[bytes]:
        yield head.removesuffix("}").encode() + b', "recognizedText": "'
        yield from _json_escaped(downloads.chunks(text))
        yield b'", "fileContent": "'
        yield from _in_base64(downloads.chunks(pdf))
        yield b'"}'

    response = Response(written(), content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def _json_escaped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yields UTF-8 text, escaped for a JSON string."""
    for text in codecs.iterdecode(chunks, "utf-8"):
        yield json.dumps(text)[1:-1].encode()


def _in_base64(chunks: Iterable[bytes]) -> Iterator[bytes]:
    left = b""
    for chunk in chunks:
        data = left + chunk
        whole = len(data) - len(data) % 3
        yield base64.b64encode(data[:whole])
        left = data[whole:]
    yield base64.b64encode(left)


def _failed(job: Job) -> Response:
    failure = job.failure
    kind = errors.by_code()[failure.code] if failure else errors.Internal
    response = json_response({}, 500)
    _refuse(response, kind, failure.message if failure else kind.title)
    return response


def _refuse(response: Response, kind: type[errors.OcrTasksError], detail: str) -> None:
    """Replaces the body of a response with an error and OCRmyPDF's exit code."""
    advice = _ADVICE.get(kind, kind.advice)
    message = f"{detail.rstrip('.')}. {advice} [{kind.code}]"
    code = next(_EXIT_CODES[group] for group in kind.__mro__ if group in _EXIT_CODES)
    to_nextcloud = request.path == "/enabled"  # with `error`, the app stays disabled
    body = {"error": message} if to_nextcloud else {"message": message, "ocrMyPdfExitCode": code}
    response.set_data(json.dumps(body, ensure_ascii=False))
    response.content_type = "application/json"
