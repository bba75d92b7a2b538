"""Streams the files of a request to storage, so that memory does not grow with their size."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from flask import Flask, Request
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import HTTPException

from ocr_tasks import errors, intake, settings
from web.pace import Stalled

#: Text fields of a form, and their bytes in all.
MAX_FIELDS = 100
MAX_FIELD_BYTES = 100_000

#: Of a body that is too large anyway no more than this is read to tell the client so.
_READ_AWAY_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 64 * 1024

#: Half of the threads may take files in; the other half always answers at once.
_places = threading.BoundedSemaphore(max(1, settings.get().web_threads // 2))


class UploadRequest(Request):
    """A request whose files are written where a job will find them, as they come in."""

    incoming: intake.Incoming | None = None

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        if self.incoming is None:
            # Only the route that takes files prepares for them.
            raise errors.MalformedRequest("this address takes no files")
        return self.incoming.open(filename or "")


def install(app: Flask) -> None:
    """Makes an application take uploads this way, and forget those that became no job."""
    config = settings.get()
    app.request_class = UploadRequest
    # What is not taken by `read` stays in memory, so it has to be small.
    app.config["MAX_CONTENT_LENGTH"] = MAX_FIELD_BYTES
    app.config["MAX_FORM_PARTS"] = config.max_files + MAX_FIELDS
    app.config["MAX_FORM_MEMORY_SIZE"] = MAX_FIELD_BYTES


def read(request: UploadRequest) -> tuple[intake.Incoming, dict[str, list[str]]]:
    """Takes the files of a request in, and gives them with the other fields of the form.

    Raises:
        errors.MalformedRequest: if it is no form, or its end is missing.
        errors.TooManyWaiting: if as many clients as may are sending at the same time.
        errors.UnsupportedEncoding, errors.TooSlow
        errors.UploadTooLarge, errors.TooManyFiles, errors.StorageFull, errors.StorageUnavailable
    """
    if request.mimetype != "multipart/form-data":
        raise errors.MalformedRequest("the body is not multipart/form-data")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise errors.UnsupportedEncoding()
    request.max_content_length = _most_bytes()
    incoming = request.incoming = intake.begin(request.content_length)
    form, files = _parts(request)
    wrong = [name for name in files if name != "file"]
    if wrong:
        raise errors.MalformedRequest(f"files go into the field `file`, not `{wrong[0][:100]}`")
    if "file" in form:
        raise errors.MalformedRequest("the field `file` needs a file, with a file name")
    return incoming, {name: form.getlist(name) for name in form}


def _parts(request: Request) -> tuple[MultiDict[str, str], MultiDict[str, FileStorage]]:
    """The fields and the files of a form, as far as the client sends them in time."""
    if not _places.acquire(blocking=False):
        raise errors.TooManyWaiting("As many clients are sending files as the server has room for")
    try:
        return request.form, request.files
    except HTTPException as error:
        if isinstance(error.__context__, Stalled):
            raise errors.TooSlow() from error
        raise _too_much(error, request) from error
    except OSError as error:
        raise errors.MalformedRequest("the body did not arrive whole") from error
    finally:
        _places.release()


def _too_much(error: HTTPException, request: Request) -> errors.OcrTasksError:
    if error.code != 413:
        return errors.MalformedRequest(error.description or "")
    if request.content_length is not None and request.content_length <= _most_bytes():
        return errors.TooManyFiles("too many parts, or text fields that are too long")
    return errors.UploadTooLarge(f"more than {settings.get().max_upload_bytes} bytes")


def _most_bytes() -> int:
    return settings.get().max_upload_bytes + 1024 * 1024  # room for the form


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


def read_away(request: Request) -> None:
    """Reads what is left of a body, so that a client that still sends sees why it is refused."""
    most = _most_bytes()
    if (request.content_length or 0) > most:
        most = _READ_AWAY_BYTES
    body = request.environ["wsgi.input"]
    with suppress(OSError):  # the client has gone
        while most > 0 and (piece := body.read(min(most, _PIECE_BYTES))):
            most -= len(piece)
