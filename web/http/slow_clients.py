"""A gunicorn worker that disconnects clients that send too slowly.

A thread that receives a request is blocked until the client has sent all of it, and gunicorn waits
for each byte without a timeout. This module adds timeouts, and lets threads detect that their
client has disconnected or that the server is stopping. If a client sends more than the server
reads, the response announces that the connection will be closed, and the rest is discarded.
"""

from __future__ import annotations

import errno
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from flask import Flask, Request, Response, request
from gunicorn.workers.gthread import ThreadWorker

from ocr_tasks import settings

#: Minimum average rate in bytes per second, after OCR_BODY_SECONDS.
_RATE = 1000

#: Milliseconds between checks whether the rest of a body is still needed.
_POLL_MS = 200

#: Bytes of an unread body that gunicorn discards before the next request on a connection; it closes
#: the connection if more are left (`_DRAIN_MAX_BYTES` in gunicorn/http/parser.py).
_DISCARDED_BYTES = 64 * 1024

#: Seconds for which the rest of a body is discarded after the response, and seconds without data
#: after which that ends.
_LINGER_SECONDS, _LINGER_IDLE_SECONDS = 30.0, 2.0

#: At most half of the threads may discard bodies; the others stay free for other requests.
_lingering = threading.BoundedSemaphore(max(1, settings.get().web_threads // 2))

_stopping = threading.Event()


class Stalled(ConnectionResetError):
    """The client sends too slowly. Gunicorn ignores connection resets, so this is one."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "the client sends too slowly")


class Unwanted(ConnectionAbortedError):
    """The rest of the body is not needed anymore."""


class PacedSocket(socket.socket):
    """A client connection with a minimum rate and a maximum pause."""

    _began = 0.0
    _received = 0
    _unwanted: Callable[[], bool] | None = None

    #: The request that gunicorn handles.
    message: Any = None

    #: Why a body ended early after `end_early`. No more data is received after it is set.
    broken: OSError | None = None

    def has_unread_body(self) -> bool:
        """Returns whether the client may still be sending the body of a request."""
        if self.broken or not self.message or self.message.body.failed:
            return False
        reader = self.message.body.reader
        return getattr(reader, "length", 0) > 0 or getattr(reader, "parser", None) is not None

    def setblocking(self, flag: bool) -> None:
        """Resets the timeouts; gunicorn calls this when a thread starts to receive a request."""
        if flag:
            self._began, self._received, self._unwanted = time.monotonic(), 0, None
            self.settimeout(settings.get().body_seconds)
        else:
            super().setblocking(False)

    def end_early(self, unwanted: Callable[[], bool]) -> None:
        """Ends the body of this request, instead of raising an error, where the connection breaks.

        All received bytes can be used this way. The body also ends if `unwanted` returns True,
        which is checked every 200 ms while no data arrives.
        """
        self._unwanted = unwanted

    def recv(self, *arguments: Any) -> bytes:
        """Receives data within the timeouts."""
        if self.broken:
            return b""
        if self._unwanted is None:
            return self._receive(*arguments)
        try:
            self._await(self._unwanted)
            return self._receive(*arguments)
        except OSError as error:
            self.broken = error
            return b""

    def _await(self, unwanted: Callable[[], bool]) -> None:
        poll = select.poll()
        poll.register(self, select.POLLIN)
        until = time.monotonic() + settings.get().body_seconds
        while not poll.poll(_POLL_MS):
            if unwanted():
                raise Unwanted(errno.ECONNABORTED, "the rest of the body is not needed")
            if time.monotonic() > until:
                raise Stalled

    def _receive(self, *arguments: Any) -> bytes:
        allowed = settings.get().body_seconds + self._received / _RATE
        if time.monotonic() - self._began > allowed:
            raise Stalled
        try:
            data = super().recv(*arguments)
        except TimeoutError:
            raise Stalled from None
        self._received += len(data)
        return data


class PacedWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn's `gthread` worker with paced connections."""

    def enqueue_req(self, conn: Any) -> None:
        """Replaces the socket of a connection; gunicorn calls this for each request."""
        if not isinstance(conn.sock, PacedSocket):
            conn.sock = PacedSocket(fileno=conn.sock.detach())
        super().enqueue_req(conn)

    def handle_request(self, req: Any, conn: Any) -> bool:
        """Handles a request; gunicorn calls this in one of its threads."""
        conn.sock.message = req
        return bool(super().handle_request(req, conn))

    def handle(self, conn: Any) -> Any:
        """Handles a connection; gunicorn calls this in one of its threads."""
        kept = super().handle(conn)
        if kept is False and isinstance(conn.sock, PacedSocket) and conn.sock.has_unread_body():
            _linger(conn.sock)
        return kept

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Notes that the process is stopping; gunicorn calls this seconds before it must exit."""
        _stopping.set()
        super().handle_exit(sig, frame)


def _linger(connection: PacedSocket) -> None:
    """Discards what the client still sends, so that it receives the response.

    Closing the connection would reset it, and many clients read the response only after they have
    sent everything (RFC 9112, section 9.6).
    """
    if not _lingering.acquire(blocking=False):
        return
    until = time.monotonic() + _LINGER_SECONDS
    try:
        with suppress(OSError):  # the client has gone, or stopped sending
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(_LINGER_IDLE_SECONDS)
            while time.monotonic() < until and not is_stopping():
                if not socket.socket.recv(connection, _DISCARDED_BYTES):
                    break
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RD)  # otherwise gunicorn waits again
    finally:
        _lingering.release()


def install(app: Flask) -> None:
    """Announces that a connection will be closed, if much of a request's body was not read.

    Otherwise the client would send its next request to a connection that gunicorn closes.
    """
    app.after_request(_announce_close)


def _announce_close(response: Response) -> Response:
    connection = request.environ.get("gunicorn.socket")
    if isinstance(connection, PacedSocket) and connection.message:
        unread = getattr(connection.message.body.reader, "length", 0)
        if unread >= _DISCARDED_BYTES:
            connection.message.force_close()
    return response


def is_stopping() -> bool:
    """Returns whether this process is stopping."""
    return _stopping.is_set()


def has_left(request: Request) -> bool:
    """Returns whether the client has closed its connection; False if that cannot be detected."""
    connection = request.environ.get("gunicorn.socket")
    if connection is None:
        return False
    poll = select.poll()
    # Peeking at the received data would not see past a pipelined request.
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))
