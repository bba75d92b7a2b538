"""Streams request bodies to storage, with memory use independent of their size."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO

from flask import Flask, Request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import HTTPException

from ocr_tasks import errors, settings
from ocr_tasks.jobs import retention
from ocr_tasks.storage import store
from ocr_tasks.uploads import receive
from web.http import multipart_form
from web.http.slow_clients import PacedSocket, Stalled, Unwanted

#: Maximum number of text fields in a form, and of their bytes in total.
MAX_FIELDS = 100
MAX_FIELD_BYTES = 100_000

#: Maximum number of bytes that are read and discarded from a body that is too large.
_DRAIN_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024

#: For resumable uploads, a read that takes longer than this is followed by a smaller one.
_SLOW_SECONDS = 0.1
_SMALLEST_CHUNK_BYTES = 1024

#: Seconds for which the rest of a rejected body is awaited.
_DRAIN_SECONDS = 5.0

#: At most half of the threads may receive files; the others stay free for other requests.
_slots = threading.BoundedSemaphore(max(1, settings.get().web_threads // 2))


class UploadRequest(Request):
    """A request whose files are written to the data folder while they are received."""

    incoming: receive.Upload | None = None
    limits: receive.Limits | None = None

    def _load_form_data(self) -> None:
        if self.mimetype == "multipart/form-data":  # `read` parses the forms of routes with files
            raise errors.MalformedRequest("This endpoint does not accept multipart/form-data")
        super()._load_form_data()


def install(app: Flask) -> None:
    """Uses `UploadRequest` for an application; deletes abandoned uploads if storage is remote."""
    config = settings.get()
    if not store.get().in_folder:
        retention.sweep_uploads(retention.Swept())  # workers may not share this data folder
    app.request_class = UploadRequest
    # Bodies that are not received by `read` are kept in memory and must be small.
    app.config["MAX_CONTENT_LENGTH"] = MAX_FIELD_BYTES
    app.config["MAX_FORM_PARTS"] = config.max_files + MAX_FIELDS
    app.config["MAX_FORM_MEMORY_SIZE"] = MAX_FIELD_BYTES


def read(
    request: UploadRequest, field: str = "file", limits: receive.Limits | None = None
) -> tuple[receive.Upload, dict[str, list[str]]]:
    """Receives a form; returns its files and its other fields.

    Files are accepted in `field` only. `limits` defaults to those of documents.
    """
    if request.mimetype != "multipart/form-data":
        raise errors.MalformedRequest("The request body is not multipart/form-data")
    incoming = _begin(request, limits)

    def open_file(name: str, file_name: str) -> IO[bytes]:
        if name != field:
            raise errors.MalformedRequest(
                f"Send files in the field `{field}`, not in `{name[:100]}`"
            )
        return incoming.open(file_name)

    form = _form(request, open_file)
    if field in form:
        raise errors.MalformedRequest(f"The field `{field}` must be a file, with a file name")
    return incoming, form


def _form(request: UploadRequest, open_file: multipart_form.OpenFile) -> dict[str, list[str]]:
    most = settings.get().max_files + MAX_FIELDS
    kind = request.headers.get("Content-Type", "")
    with _receiving(request):
        return multipart_form.parse(_reader(request), kind, open_file, MAX_FIELD_BYTES, most)


def _reader(request: Request) -> Callable[[int], bytes]:
    """Returns a function that reads the body.

    It raises MalformedRequest at the end if the client announced more bytes than it sent.
    """
    received = 0

    def read(size: int) -> bytes:
        nonlocal received
        chunk: bytes = request.stream.read(size)
        received += len(chunk)
        if not chunk and received < (request.content_length or 0):
            raise _broken(request.environ.get("gunicorn.socket"))
        return chunk

    return read


def read_body(
    request: UploadRequest,
    limits: receive.Limits,
    decode: Callable[[Iterable[bytes]], Iterable[bytes]] | None = None,
) -> receive.Upload:
    """Receives the body of a request as a file; `decode` extracts the file from an encoded body."""
    # Base64 is a third larger; JSON escapes can add more.
    body = receive.Limits(limits.bytes * 3 // 2, limits.files) if decode else limits
    incoming = _begin(request, body)
    incoming.limits = limits
    file = incoming.open("")
    read = _reader(request)
    chunks: Iterable[bytes] = iter(lambda: read(_CHUNK_BYTES), b"")
    with _receiving(request):
        for chunk in decode(chunks) if decode else chunks:
            file.write(chunk)
    return incoming


def read_text(request: UploadRequest, field: str, max_bytes: int) -> bytes | None:
    """Returns a short text: a file or field of a form, or a text/* body; None if there is none.

    Raises `UploadTooLarge` if it has more than `max_bytes` bytes.
    """
    _check_encoding(request)
    request.limits = receive.Limits(max_bytes, 1)
    if request.mimetype.startswith("text/"):
        with _receiving(request):
            text = read_small(request)
    elif request.mimetype == "multipart/form-data":
        files: dict[str, io.BytesIO] = {}
        form = _form(request, lambda name, _: files.setdefault(name, io.BytesIO()))
        if field not in files and field not in form:
            return None
        text = files[field].getvalue() if field in files else form[field][0].encode()
    elif field in request.form:
        text = request.form[field].encode()
    else:
        return None
    if len(text) > max_bytes:
        raise errors.UploadTooLarge(
            f"The request body is larger than {max_bytes} bytes", limit=max_bytes
        )
    return text


def read_small(request: UploadRequest) -> bytes:
    """Returns the body of a request; raises MalformedRequest if it is incomplete.

    Its maximum size is that of `Request.max_content_length`.
    """
    read = _reader(request)
    with _connection_errors():
        return b"".join(iter(lambda: read(_CHUNK_BYTES), b""))


def chunks(request: Request, unwanted: Callable[[], bool]) -> Generator[bytes, None, None]:
    """Yields the body of a request in chunks.

    If the connection breaks or `unwanted` returns True, the received chunks are yielded first, then
    an error is raised.
    """
    _check_encoding(request)
    body, left = request.environ["wsgi.input"], request.content_length
    connection = request.environ.get("gunicorn.socket")
    if isinstance(connection, PacedSocket):
        connection.end_early(unwanted)
    size = _SMALLEST_CHUNK_BYTES
    with _slot():
        try:
            began = time.monotonic()
            while chunk := body.read(size if left is None else min(left, size)):
                left = None if left is None else left - len(chunk)
                # A read blocks until it is complete, so smaller reads lose less if it breaks.
                slow = time.monotonic() - began > _SLOW_SECONDS
                size = (
                    max(size // 2, _SMALLEST_CHUNK_BYTES) if slow else min(size * 2, _CHUNK_BYTES)
                )
                yield chunk
                if unwanted():
                    raise errors.UploadBusy(retry_after=2)
                began = time.monotonic()
        except (OSError, ParseException) as error:
            raise _broken(connection) from error
    if left:
        raise _broken(connection)


def _broken(connection: object) -> errors.OcrTasksError:
    reason = getattr(connection, "broken", None)
    if isinstance(reason, Unwanted):
        return errors.UploadBusy(retry_after=2)
    if isinstance(reason, Stalled):
        return errors.TooSlow()
    return errors.MalformedRequest("The request body is incomplete")


def _begin(request: UploadRequest, limits: receive.Limits | None) -> receive.Upload:
    _check_encoding(request)
    request.limits = limits
    request.max_content_length = _max_bytes(request)
    request.incoming = receive.start(request.content_length, limits)
    return request.incoming


def _check_encoding(request: Request) -> None:
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise errors.UnsupportedEncoding()


@contextmanager
def _receiving(request: UploadRequest) -> Iterator[None]:
    """Reserves a slot, and converts errors while a body is received to the service's errors."""
    with _slot(), _connection_errors():
        try:
            yield
        except HTTPException as error:
            if isinstance(error.__context__, Stalled):
                raise errors.TooSlow() from error
            raise _too_much(error, request) from error


@contextmanager
def _connection_errors() -> Iterator[None]:
    try:
        yield
    except Stalled as error:
        raise errors.TooSlow() from error
    except (OSError, ParseException) as error:
        raise errors.MalformedRequest("The request body is incomplete") from error


@contextmanager
def _slot() -> Iterator[None]:
    if not _slots.acquire(blocking=False):
        raise errors.TooManyConnections("Too many clients are uploading files at the same time")
    try:
        yield
    finally:
        _slots.release()


def _too_much(error: HTTPException, request: UploadRequest) -> errors.OcrTasksError:
    if error.code != 413:
        return errors.MalformedRequest(error.description or "")
    most = request.max_content_length or 0
    if request.content_length is not None and request.content_length <= most:
        return errors.TooManyFiles(
            "The request has too many parts, or its text fields are too long"
        )
    return errors.UploadTooLarge(f"The upload is larger than {_limits(request).bytes} bytes")


def _limits(request: Request) -> receive.Limits:
    own = request.limits if isinstance(request, UploadRequest) else None
    return own or receive.documents()


def _max_bytes(request: Request) -> int:
    return _limits(request).bytes + 1024 * 1024  # space for the other form fields


@contextmanager
def cleaning_up(request: UploadRequest) -> Iterator[None]:
    """Deletes, at the end of the block, received files that did not become a job.

    After an error, the rest of the body is read first. Otherwise a client that is still sending
    would get a connection error instead of the response.
    """
    try:
        yield
    except Exception:
        drain(request)
        raise
    finally:
        if request.incoming is not None:
            request.incoming.discard()


def drain(request: Request, max_bytes: int = 0) -> None:
    """Reads and discards the rest of a body; a client that is still sending then gets the error.

    Reads at most `max_bytes` bytes if given, and at most 64 MiB of a body that is too large.
    """
    max_bytes = max_bytes or _max_bytes(request)
    if (request.content_length or 0) > max_bytes:
        max_bytes = min(max_bytes, _DRAIN_BYTES)
    body, connection = request.environ["wsgi.input"], request.environ.get("gunicorn.socket")
    if isinstance(connection, PacedSocket):
        until = time.monotonic() + _DRAIN_SECONDS
        connection.end_early(lambda: time.monotonic() > until)
    with suppress(OSError, ParseException):  # the client has gone
        while max_bytes > 0 and (chunk := body.read(min(max_bytes, _CHUNK_BYTES))):
            max_bytes -= len(chunk)
