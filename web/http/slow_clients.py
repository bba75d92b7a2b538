"""Gunicorn's worker with threads, which lets go of clients that keep a thread by sending slowly.

A thread that reads a request belongs to its client until that has sent all of it; gunicorn waits
for each byte without end. Nor does it tell a thread that its client has gone, or that it is time to
come to an end.
"""

from __future__ import annotations

import errno
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from flask import Request
from gunicorn.workers.gthread import ThreadWorker

from ocr_tasks import settings

#: Bytes a second that a client must send on average, after OCR_BODY_SECONDS.
_RATE = 1000

#: Milliseconds after which one that waits for a client looks whether anybody still wants it.
_LOOK_MS = 200

_stopping = threading.Event()


class Stalled(ConnectionResetError):
    """The client sends too slowly. (Of a connection that is reset gunicorn makes no fuss.)"""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "the client sends too slowly")


class Unwanted(ConnectionAbortedError):
    """Nobody waits any more for what this client sends."""


class PacedSocket(socket.socket):
    """A connection that must send without long pauses, and not too slowly."""

    _began = 0.0
    _received = 0
    _unwanted: Callable[[], bool] | None = None

    #: Why a body ended early that `end_early` was called for; nothing is read after it.
    broken: OSError | None = None

    def setblocking(self, flag: bool) -> None:
        """See socket. Gunicorn calls it as a thread begins to read a request."""
        if flag:
            self._began, self._received, self._unwanted = time.monotonic(), 0, None
            self.settimeout(settings.get().body_seconds)
        else:
            super().setblocking(False)

    def end_early(self, unwanted: Callable[[], bool]) -> None:
        """Has the body of this request end where the line breaks, so that all that came is read.

        It also ends soon after `unwanted` says so, which is asked while nothing comes.
        """
        self._unwanted = unwanted

    def recv(self, *arguments: Any) -> bytes:
        """See socket."""
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
        while not poll.poll(_LOOK_MS):
            if unwanted():
                raise Unwanted(errno.ECONNABORTED, "nobody waits for the rest")
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
    """Gunicorn's `gthread`, with such connections."""

    def enqueue_req(self, conn: Any) -> None:
        """See gunicorn; called for each request."""
        if not isinstance(conn.sock, PacedSocket):
            conn.sock = PacedSocket(fileno=conn.sock.detach())
        super().enqueue_req(conn)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """See gunicorn; called as the process is told to stop, some seconds before it must."""
        _stopping.set()
        super().handle_exit(sig, frame)


def is_stopping() -> bool:
    """Whether this process has been told to stop."""
    return _stopping.is_set()


def has_left(asked: Request) -> bool:
    """Whether the client of a request has closed its connection; no, where that cannot be seen."""
    connection = asked.environ.get("gunicorn.socket")
    if connection is None:
        return False
    poll = select.poll()
    # By a look at what has come in, one could not see behind a request that was sent too early.
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))
