"""Streams the files of a request to storage, so that memory does not grow with their size."""

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
from web.http.slow_clients import PacedSocket, Stalled, Unwanted

#: Text fields of a form, and their bytes in all.
MAX_FIELDS = 100
MAX_FIELD_BYTES = 100_000

#: Of a body that is too large anyway no more than this is read to tell the client so.
_READ_AWAY_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 64 * 1024

#: Where all that has arrived is kept, a read that takes longer is followed by a smaller one.
_SLOW_SECONDS = 0.1
_SMALLEST_PIECE_BYTES = 1024

#: A client that is refused, and pauses for so long, gets its answer at once.
_READ_AWAY_SECONDS = 5.0

#: Half of the threads may take files in; the other half always answers at once.
_places = threading.BoundedSemaphore(max(1, settings.get().web_threads // 2))


class UploadRequest(Request):
    """A request whose files are written where a job will find them, as they come in."""

    incoming: receive.Incoming | None = None
    limits: receive.Limits | None = None

    #: Whether its file is so small that it may stay in memory.
    in_memory = False

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        if self.in_memory:
            return io.BytesIO()
        if self.incoming is None:
            # Only the route that takes files prepares for them.
            raise errors.MalformedRequest("this address takes no files")
        return self.incoming.open(filename or "")


def install(app: Flask) -> None:
    """Makes an application take uploads this way, and forget those that became no job."""
    config = settings.get()
    if not store.get().in_folder:
        retention.sweep_uploads(retention.Swept())  # perhaps no worker sees this data folder
    app.request_class = UploadRequest
    # What is not taken by `read` stays in memory, so it has to be small.
    app.config["MAX_CONTENT_LENGTH"] = MAX_FIELD_BYTES
    app.config["MAX_FORM_PARTS"] = config.max_files + MAX_FIELDS
    app.config["MAX_FORM_MEMORY_SIZE"] = MAX_FIELD_BYTES


def read(
    request: UploadRequest, field: str = "file", limits: receive.Limits | None = None
) -> tuple[receive.Incoming, dict[str, list[str]]]:
    """Takes the files of a form in, and gives them with its other fields.

    Files are in the field of that name, within the limits, which else are those of a document.
    """
    if request.mimetype != "multipart/form-data":
        raise errors.MalformedRequest("the body is not multipart/form-data")
    incoming = _begin(request, limits)
    with _receiving(request):
        form, files = request.form, request.files
    wrong = [name for name in files if name != field]
    if wrong:
        raise errors.MalformedRequest(f"files go into the field `{field}`, not `{wrong[0][:100]}`")
    if field in form:
        raise errors.MalformedRequest(f"the field `{field}` needs a file, with a file name")
    return incoming, {name: form.getlist(name) for name in form}


def read_body(
    request: UploadRequest,
    limits: receive.Limits,
    decode: Callable[[Iterable[bytes]], Iterable[bytes]] | None = None,
) -> receive.Incoming:
    """Takes the body of a request in as a file; `decode` makes the file of a body that holds it."""
    # Base64 is a third more, and whatever is written as an escape.
    body = receive.Limits(limits.bytes * 3 // 2, limits.files) if decode else limits
    incoming = _begin(request, body)
    incoming.limits = limits
    file = incoming.open("")
    pieces: Iterable[bytes] = iter(lambda: request.stream.read(_PIECE_BYTES), b"")
    with _receiving(request):
        for piece in decode(pieces) if decode else pieces:
            file.write(piece)
    return incoming


def read_text(request: UploadRequest, field: str, most_bytes: int) -> bytes | None:
    """A short text: a file or a field of a form, or the body itself; None where there is none."""
    _check_encoding(request)
    request.limits, request.in_memory = receive.Limits(most_bytes, 1), True
    with _receiving(request):
        if request.mimetype.startswith("text/"):
            text = request.get_data(cache=False)
        elif field in request.files:
            text = request.files[field].read()
        elif field in request.form:
            text = request.form[field].encode()
        else:
            return None
    if len(text) > most_bytes:
        raise errors.UploadTooLarge(f"more than {most_bytes} bytes", limit=most_bytes)
    return text


def pieces(request: Request, unwanted: Callable[[], bool]) -> Generator[bytes, None, None]:
    """The body of a request, up to where it breaks off, or soon after it is `unwanted`.

    An error is raised after the last piece.
    """
    _check_encoding(request)
    body, left = request.environ["wsgi.input"], request.content_length
    connection = request.environ.get("gunicorn.socket")
    if isinstance(connection, PacedSocket):
        connection.end_early(unwanted)
    size = _SMALLEST_PIECE_BYTES
    with _place():
        try:
            began = time.monotonic()
            while piece := body.read(size if left is None else min(left, size)):
                left = None if left is None else left - len(piece)
                # A read waits for all that it asks for: over a slow line less is asked for.
                slow = time.monotonic() - began > _SLOW_SECONDS
                size = (
                    max(size // 2, _SMALLEST_PIECE_BYTES) if slow else min(size * 2, _PIECE_BYTES)
                )
                yield piece
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
    return errors.MalformedRequest("the body did not arrive whole")


def _begin(request: UploadRequest, limits: receive.Limits | None) -> receive.Incoming:
    _check_encoding(request)
    request.limits = limits
    request.max_content_length = _most_bytes(request)
    request.incoming = receive.begin(request.content_length, limits)
    return request.incoming


def _check_encoding(request: Request) -> None:
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise errors.UnsupportedEncoding()


@contextmanager
def _receiving(request: UploadRequest) -> Iterator[None]:
    """Says what is wrong with a body that does not come as it should, or in time."""
    with _place():
        try:
            yield
        except HTTPException as error:
            if isinstance(error.__context__, Stalled):
                raise errors.TooSlow() from error
            raise _too_much(error, request) from error
        except OSError as error:
            raise errors.MalformedRequest("the body did not arrive whole") from error


@contextmanager
def _place() -> Iterator[None]:
    if not _places.acquire(blocking=False):
        raise errors.TooManyWaiting("As many clients are sending files as the server has room for")
    try:
        yield
    finally:
        _places.release()


def _too_much(error: HTTPException, request: UploadRequest) -> errors.OcrTasksError:
    if error.code != 413:
        return errors.MalformedRequest(error.description or "")
    most = request.max_content_length or 0
    if request.content_length is not None and request.content_length <= most:
        return errors.TooManyFiles("too many parts, or text fields that are too long")
    return errors.UploadTooLarge(f"more than {_limits(request).bytes} bytes")


def _limits(request: Request) -> receive.Limits:
    own = request.limits if isinstance(request, UploadRequest) else None
    return own or receive.documents()


def _most_bytes(request: Request) -> int:
    return _limits(request).bytes + 1024 * 1024  # room for the form


@contextmanager
def taking(request: UploadRequest) -> Iterator[None]:
    """Deletes at the end what the request brought and no job took over.

    After a refusal the rest of the body is read away first: a client that is still sending would
    see a broken connection instead of the reason.
    """
    try:
        yield
    except Exception:
        read_away(request)
        raise
    finally:
        if request.incoming is not None:
            request.incoming.discard()


def read_away(request: Request, most: int = 0) -> None:
    """Reads what is left of a body, so that a client that still sends sees why it is refused.

    Of one that is too large anyway, only a part; where it is given, no more than `most` bytes.
    """
    most = most or _most_bytes(request)
    if (request.content_length or 0) > most:
        most = min(most, _READ_AWAY_BYTES)
    body, connection = request.environ["wsgi.input"], request.environ.get("gunicorn.socket")
    if isinstance(connection, PacedSocket):
        until = time.monotonic() + _READ_AWAY_SECONDS
        connection.end_early(lambda: time.monotonic() > until)
    with suppress(OSError, ParseException):  # the client has gone
        while most > 0 and (piece := body.read(min(most, _PIECE_BYTES))):
            most -= len(piece)
