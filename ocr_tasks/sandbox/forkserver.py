"""Starts the processes that look into uploads, each a fork of one that has everything loaded.

Starting Python and its PDF library anew takes 0.15 s for each upload; a fork takes a hundredth of
that. The process that is forked has one thread, no secrets in its environment, and never looks into
an upload itself. Each web process has its own, from its first upload on.
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

from ocr_tasks import errors

#: Bytes of an answer at most; it is a few numbers and a sentence.
_MOST = 1 << 20


class NoAnswer(Exception):
    """The child was ended by a limit, or crashed."""


class TimedOut(NoAnswer):
    """The child took too long, and was killed."""


class _Zygote:
    """The process that is forked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def child(self) -> socket.socket:
        """A socket to a new child."""
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            try:
                self._send(theirs)
            except OSError:  # it has died
                self._forget()
                self._send(theirs)
        return ours

    def _send(self, end: socket.socket) -> None:
        # A fork of this process must not share the connection.
        if self._control is None or self._owner != os.getpid():
            self._forget()
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process, self._owner = _start(theirs), os.getpid()
        socket.send_fds(self._control, [b"."], [end.fileno()])

    def _forget(self) -> None:
        if self._control:
            self._control.close()
        self._control = None

    def end(self) -> None:
        """Lets the process end."""
        if self._control and self._process and self._owner == os.getpid():
            self._control.close()
            self._process.wait()


_zygote = _Zygote()
atexit.register(_zygote.end)


def ask(order: dict[str, Any], folder: Path, seconds: float) -> dict[str, Any]:
    """Returns a new child's answer to an order; its temporary files go into `folder`."""
    deadline = time.monotonic() + seconds
    with _zygote.child() as child:
        child.sendall(json.dumps(order | {"folder": str(folder)}).encode())
        child.shutdown(socket.SHUT_WR)
        said = b""
        try:
            while len(said) < _MOST:
                child.settimeout(max(0.001, deadline - time.monotonic()))
                piece = child.recv(65536)
                if not piece:
                    break
                said += piece
        except TimeoutError:
            _kill(said)
            raise TimedOut from None
        except ConnectionError:
            raise NoAnswer from None
    try:
        answer: dict[str, Any] = json.loads(said.partition(b"\n")[2])
    except ValueError:
        raise NoAnswer from None
    return answer


def look(order: dict[str, Any], folder: Path, seconds: float) -> dict[str, Any]:
    """The answer of a new child, as `ask`, with what becomes of it in our words."""
    try:
        return ask(order, folder, seconds)
    except TimedOut:
        raise errors.CheckFailed(f"more than {seconds} seconds") from None
    except NoAnswer:
        raise errors.CheckFailed() from None
    except OSError as error:
        raise errors.StorageUnavailable("cannot start the check of the upload") from error


def _kill(said: bytes) -> None:
    """Kills a child, which says its process id first, and what it started."""
    pid, line, _ = said.partition(b"\n")
    if line:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(pid), signal.SIGKILL)


def _start(control: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "ocr_tasks.uploads.inspect"],
        stdin=control.fileno(),
        stdout=subprocess.DEVNULL,
        # Nothing of ours but what it needs: no address of Redis, no secrets.
        env={name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        | {"HOME": "/nonexistent"},
        start_new_session=True,
    )


def serve(work: Any) -> None:
    """The life of the process that is forked: `work(order)` answers in each child.

    Ends when the process that started it has ended.
    """
    os.umask(0o077)
    gc.freeze()  # what is loaded is shared with the children, and stays
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    with socket.socket(fileno=os.dup(0)) as control:
        while True:
            asked, ends, _, _ = socket.recv_fds(control, 1, 1)
            if not asked:
                return
            if os.fork() == 0:
                control.close()
                _answer(socket.socket(fileno=ends[0]), work)
            os.close(ends[0])


def _answer(asker: socket.socket, work: Any) -> None:
    """The life of a child: one order, one line of answer."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        asker.sendall(b"%d\n" % os.getpid())
        with asker.makefile("rb") as said:
            order = json.loads(said.read())
        os.environ["TMPDIR"] = order["folder"]
        asker.sendall(json.dumps(work(order)).encode())
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())  # its last words are for the log
    finally:
        os._exit(code)
