"""The OCR back end of Nextcloud, for its app Workflow OCR.

Wire facts are those of https://github.com/R0Wi-DEV/workflow_ocr_backend (`app.py`, `ocrservice.py`)
and of its one client, https://github.com/R0Wi-DEV/workflow_ocr (`ApiClient.php`), which knows the
statuses 200 and 500 only. What Nextcloud asks of any external app is in
https://github.com/nextcloud/app_api (`AppAPIService.php`): a heartbeat without a token; `/init`,
after which it goes on at once if that is 501, and waits to be told of the end if it is 200; and
`/enabled`, whose answer is looked at for `error`. Its requests carry
`AUTHORIZATION-APP-API: base64(user:secret)`; the secret is one of our tokens (`origins`).
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

blueprint = APIBlueprint(
    "nextcloud", __name__, abp_tags=[Tag(name="Nextcloud", description="Its OCR back end")]
)

#: OCRmyPDF's exit code for each kind of error of ours (ocrmypdf.exceptions.ExitCode); an error that
#: is not here has that of its group. The client is quiet about 6 where files with text are to be
#: skipped, and if it is told to about 2 and 8.
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

#: What to do, where it is something else here than for clients of our own API.
_ADVICE: dict[type[errors.OcrTasksError], str] = {
    errors.NotAuthenticated: "Register the app in Nextcloud with a token of `ocr-tasks tokens "
    "create` as its secret.",
    errors.InvalidOptions: "Correct the custom CLI arguments in Nextcloud's flow.",
    errors.LanguageUnavailable: "Choose another one in Nextcloud's flow, or have the operator "
    "install it.",
    errors.PdfSigned: "Add --invalidate-digital-signatures if the signature may be lost.",
    errors.PriorText: "Choose another OCR mode in Nextcloud's flow: --skip-text keeps such pages, "
    "--redo-ocr reads them anew, --force-ocr rebuilds them.",
    errors.JobCancelled: "Run the flow again.",
}

#: Statuses of refusals that the original has as well; of others its client would not look at the
#: body.
_KEPT_STATUSES = (401, 403)

#: The client closed its connection: nginx' status for that, which nobody gets to see.
_CLIENT_LEFT = 499

_FIELD = "ocrmypdf_parameters"

_FORM = file_form(_FIELD, "As --skip-text --language deu+eng")


@blueprint.after_request
def _in_its_shape(response: Response) -> Response:
    """Has every error told as the client of this address understands it."""
    if response.mimetype == "application/problem+json":
        problem = json.loads(response.get_data())
        kind = errors.by_code()[problem["code"]]
        _refuse(response, kind, problem["detail"])
        if response.status_code not in _KEPT_STATUSES:
            response.status_code = 500
    return response


@blueprint.post("/process_ocr", openapi_extensions={"requestBody": _FORM})
def process() -> Response:
    """Send a document and wait for it to be read.

    `file` is read as the arguments of OCRmyPDF in `ocrmypdf_parameters` have it. The answer holds
    the text, and the PDF in base64. If the client closes the connection before, the job is
    cancelled.
    """
    access_log.waits()
    upload = cast("streaming.UploadRequest", request)
    with events.place() as may_wait:
        with submission.admitting(upload) as caller:
            if not may_wait:
                raise errors.TooManyWaiting()
            limits = receive.Limits(settings.get().max_upload_bytes, files=1)
            incoming, form = streaming.read(upload, limits=limits)
            job = submission.submit(caller, incoming, _options(form), reuse=False)
        ended = events.stay(job, request)
    if ended is None:
        return Response(status=_CLIENT_LEFT)
    return _answer(ended) if ended.state is State.SUCCEEDED else _failed(ended)


@blueprint.get("/installed_languages")
def installed_languages() -> Response:
    """The codes of the languages that can be read."""
    return _json(worker_registry.languages())


@blueprint.get("/heartbeat")
def heartbeat() -> Response:
    """Whether the server is there."""
    return _json({"status": "ok"})


@blueprint.post("/init")
def initialise() -> Response:
    """Prepare to be used: 501, as there is nothing to prepare, so Nextcloud goes on at once."""
    return Response(status=501)


@blueprint.put("/enabled")
def enable() -> Response:
    """Be told that the app was switched on or off, which changes nothing here."""
    return _json({"error": ""})


def _options(form: dict[str, list[str]]) -> JobOptions:
    if form.keys() - {_FIELD}:
        raise errors.MalformedRequest(f"besides `file` there is one field, `{_FIELD}`")
    sent = form.get(_FIELD, [""])
    if len(sent) > 1:
        raise errors.MalformedRequest(f"the field `{_FIELD}` was sent more than once")
    # Somebody waits, with a limit of time; and the answer has the text.
    return ocrmypdf_args.parse(sent[0], priority="interactive", sidecar=True)


# Answers


def _answer(job: Job) -> Response:
    """The result, made as it is sent: memory does not grow with the document."""
    _, text = downloads.opened(job, "text")
    _, pdf = downloads.opened(job, "pdf")
    head = json.dumps({"filename": job.input.name, "contentType": "application/pdf"})

    def written() -> Iterator[bytes]:
        yield head.removesuffix("}").encode() + b', "recognizedText": "'
        yield from _within_quotes(downloads.pieces(text))
        yield b'", "fileContent": "'
        yield from _in_base64(downloads.pieces(pdf))
        yield b'"}'

    response = Response(written(), content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def _within_quotes(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """UTF-8 as the inside of a string in JSON."""
    for text in codecs.iterdecode(pieces, "utf-8"):
        yield json.dumps(text)[1:-1].encode()


def _in_base64(pieces: Iterable[bytes]) -> Iterator[bytes]:
    left = b""
    for piece in pieces:
        data = left + piece
        whole = len(data) - len(data) % 3
        yield base64.b64encode(data[:whole])
        left = data[whole:]
    yield base64.b64encode(left)


def _failed(job: Job) -> Response:
    failure = job.failure
    kind = errors.by_code()[failure.code] if failure else errors.Internal
    response = _json({}, 500)
    _refuse(response, kind, failure.message if failure else kind.title)
    return response


def _refuse(response: Response, kind: type[errors.OcrTasksError], detail: str) -> None:
    """Makes the body of an answer the one of an error, with the exit code that OCRmyPDF has."""
    advice = _ADVICE.get(kind, kind.advice)
    message = f"{detail.rstrip('.')}. {advice} [{kind.code}]"
    code = next(_EXIT_CODES[group] for group in kind.__mro__ if group in _EXIT_CODES)
    to_nextcloud = request.path == "/enabled"  # by which the app stays off
    body = {"error": message} if to_nextcloud else {"message": message, "ocrMyPdfExitCode": code}
    response.set_data(json.dumps(body, ensure_ascii=False))
    response.content_type = "application/json"


def _json(body: object, status: int = 200) -> Response:
    response = Response(json.dumps(body), status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
