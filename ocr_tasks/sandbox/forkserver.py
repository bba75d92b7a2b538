"""A fork server for the processes that check uploads.

Starting Python with a PDF library takes 0.15 s for each upload; a fork takes a hundredth of that.
The fork server has one thread and no secrets in its environment, and never opens an upload itself.
Each web process starts its own with its first upload.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ocr_tasks import errors, settings

#: Maximum bytes of a response, which consists of a few numbers and a sentence.
_MAX_RESPONSE_BYTES = 1 << 20


class NoAnswer(Exception):
    """The child was killed by a limit, or crashed."""


class TimedOut(NoAnswer):
    """The child exceeded its time limit and was killed."""


class _Client:
    """A client of the fork server, which it starts when needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def child(self) -> socket.socket:
        """Forks a child and returns a socket connected to it."""
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            try:
                self._send(theirs)
            except OSError:  # the fork server has died
                self._disconnect()
                self._send(theirs)
        return ours

    def _send(self, end: socket.socket) -> None:
        # After a fork of this process, the child needs its own fork server.
        if self._control is None or self._owner != os.getpid():
            self._disconnect()
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process, self._owner = _start(theirs), os.getpid()
        socket.send_fds(self._control, [b"."], [end.fileno()])

    def _disconnect(self) -> None:
        if self._control:
            self._control.close()
        self._control = None

    def end(self) -> None:
        """Stops the fork server."""
        if self._control and self._process and self._owner == os.getpid():
            self._control.close()
            self._process.wait()


_client = _Client()
atexit.register(_client.end)


def request(order: dict[str, Any], folder: Path, seconds: float) -> dict[str, Any]:
    """Sends an order to a new child, and returns its response.

    The child's temporary files are created in `folder`. Raises TimedOut after `seconds`, and
    NoAnswer if the child crashes.
    """
    deadline = time.monotonic() + seconds
    with _client.child() as child:
        child.sendall(json.dumps(order | {"folder": str(folder)}).encode())
        child.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while len(received) < _MAX_RESPONSE_BYTES:
                child.settimeout(max(0.001, deadline - time.monotonic()))
                chunk = child.recv(65536)
                if not chunk:
                    break
                received += chunk
        except TimeoutError:
            _kill(received)
            raise TimedOut from None
        except ConnectionError:
            raise NoAnswer from None
    try:
        response: dict[str, Any] = json.loads(received.partition(b"\n")[2])
    except ValueError:
        raise NoAnswer from None
    return response


def check(order: dict[str, Any], folder: Path, file_bytes: int) -> dict[str, Any]:
    """Sends an order to a new child like `request`, and raises errors for clients.

    The child is restricted by the settings. `file_bytes` is the maximum size of each file that it
    writes.
    """
    config = settings.get()
    sandbox = {
        "data_dir": str(config.data_dir),
        "confine_files": config.confine,
        "cpu_seconds": config.check_seconds,
        "memory_bytes": config.check_memory_bytes,
        "file_bytes": file_bytes,
    }
    try:
        return request(order | {"sandbox": sandbox}, folder, config.check_seconds)
    except TimedOut:
        detail = f"The file check took more than {config.check_seconds} seconds"
        raise errors.CheckFailed(detail) from None
    except NoAnswer:
        raise errors.CheckFailed() from None
    except OSError as error:
        raise errors.StorageUnavailable("The file check cannot be started") from error


def _kill(received: bytes) -> None:
    """Kills a child's process group. The child sends its process id first."""
    pid, line, _ = received.partition(b"\n")
    if line:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(pid), signal.SIGKILL)


def _start(control: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "ocr_tasks.uploads.inspect"],
        stdin=control.fileno(),
        stdout=subprocess.DEVNULL,
        # Only required variables: no URL of Redis, no secrets.
        env={name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        | {"HOME": "/nonexistent"},
        start_new_session=True,
    )


def serve(work: Any) -> None:
    """Runs the fork server. Each child calls `work(order)` and sends what it returns.

    Returns when the process that started the fork server has exited.
    """
    os.umask(0o077)
    gc.freeze()  # the loaded modules are shared with the children, and are not garbage
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the children
    with socket.socket(fileno=os.dup(0)) as control:
        while True:
            data, descriptors, _, _ = socket.recv_fds(control, 1, 1)
            if not data:
                return
            if os.fork() == 0:
                control.close()
                _run_child(socket.socket(fileno=descriptors[0]), work)
            os.close(descriptors[0])


def _run_child(connection: socket.socket, work: Any) -> None:
    """Runs a child: receives one order, sends one line of response, and exits."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        connection.sendall(b"%d\n" % os.getpid())
        with connection.makefile("rb") as file:
            order = json.loads(file.read())
        os.environ["TMPDIR"] = order["folder"]
        connection.sendall(json.dumps(work(order)).encode())
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())  # writes the traceback to the log
    finally:
        os._exit(code)
