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
from typing import Any

from flask import Request
from gunicorn.workers.gthread import ThreadWorker

from ocr_tasks import settings

#: Bytes a second that a client must send on average, after OCR_BODY_SECONDS.
_RATE = 1000

_stopping = threading.Event()


class Stalled(ConnectionResetError):
    """The client sends too slowly. (Of a connection that is reset gunicorn makes no fuss.)"""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "the client sends too slowly")


class PacedSocket(socket.socket):
    """A connection that must send without long pauses, and not too slowly."""

    _began = 0.0
    _received = 0

    def setblocking(self, flag: bool) -> None:
        """See socket. Gunicorn calls it as a thread begins to read a request."""
        if flag:
            self._began, self._received = time.monotonic(), 0
            self.settimeout(settings.get().body_seconds)
        else:
            super().setblocking(False)

    def recv(self, *arguments: Any) -> bytes:
        """See socket.

        Raises:
            Stalled
        """
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
