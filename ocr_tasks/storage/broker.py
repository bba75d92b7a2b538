"""Has a worker's main process transfer objects for its children, which have no way to the bucket.

A child sends, over a socket that it has from its birth, an order and an *open file* to read from or
to write into, never a path: what it may not open itself, it cannot have put into the bucket.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any, BinaryIO, cast

from ocr_tasks import errors
from ocr_tasks.storage import layout
from ocr_tasks.storage.s3 import Found, Objects

log = logging.getLogger(__name__)

#: Orders that are carried out at the same time.
_AT_ONCE = 16

#: Seconds after which a child gives an order up.
_PATIENCE = 1800.0

#: Seconds that a child has to say what it wants.
_PATIENCE_WITH_CHILDREN = 60.0

_NAME = re.compile(r"jobs/[0-9a-f]{2}/(?P<job>[0-9a-f-]{36})/(?:[\w-]+/)*(?:[\w-][\w.-]*)?")


class Porter(threading.Thread):
    """Carries out what children order; a thread of the main process."""

    def __init__(self, objects: Objects) -> None:
        super().__init__(name="porter", daemon=True)
        self._objects = objects
        self._ours, self.children_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._places = threading.Semaphore(_AT_ONCE)
        self._after: Callable[[str], None] = lambda job_id: None

    def begin(self, after: Callable[[str], None]) -> None:
        """Starts; `after(job_id)` is called when something was put for a job."""
        self._after = after
        self.start()

    def end(self) -> None:
        """Ends; what is under way is carried out."""
        self._ours.shutdown(socket.SHUT_RDWR)
        self.join()
        self._ours.close()
        self.children_end.close()

    def run(self) -> None:
        while True:
            asked, ends, _, _ = socket.recv_fds(self._ours, 1, 1)
            if not asked:
                return
            for end in ends:
                self._places.acquire()
                threading.Thread(
                    target=self._serve, args=(socket.socket(fileno=end),), daemon=True
                ).start()

    def _serve(self, asker: socket.socket) -> None:
        job_id = ""
        try:
            with asker, _said_to_be_over(asker):
                order, file = _receive(asker)
                try:
                    answer: dict[str, Any] = {"answer": self._carry_out(order, file)}
                    job_id = _job_of(order["name"]) if order["do"] == "put" else ""
                except errors.ServiceError as error:
                    answer = {"code": error.code, "detail": error.detail}
                finally:
                    if file:
                        file.close()
                asker.sendall(json.dumps(answer, default=datetime.isoformat).encode())
        except (OSError, ValueError, KeyError) as error:
            log.warning("an order of a child was not carried out: %s", error)
        finally:
            self._places.release()
            if job_id:
                self._look_after(job_id)

    def _look_after(self, job_id: str) -> None:
        try:
            self._after(job_id)
        except Exception:  # the hourly look finds what is left
            log.exception("what was put for job %s may have to go", job_id)

    def _carry_out(self, order: dict[str, Any], file: BinaryIO | None) -> Any:
        """Raises ServiceError, OSError, KeyError, ValueError."""
        objects, name = self._objects, str(order.get("name", ""))
        match order["do"]:
            case "probe":
                return objects.probe()
            case "find":
                found = objects.find(_checked(name))
                return asdict(found) if found else None
            case "below":
                return [asdict(found) for found in objects.below(_checked(name))]
            case "delete":
                return objects.delete([_checked(str(row)) for row in order["names"]])
            case "put" if file:
                return objects.put(_checked(name), file)
            case "get" if file:
                found = objects.find(_checked(name))
                if found is None:
                    raise errors.StorageUnavailable("the object was deleted meanwhile")
                with layout.failures():
                    objects.get(found, file)
                    file.flush()
                return None
            case what:
                raise ValueError(f"not an order: {what}")


@contextmanager
def _said_to_be_over(asker: socket.socket) -> Iterator[None]:
    """Tells the other end when the block is over.

    That it is closed here does not: a child that is born meanwhile has it open as well.
    """
    try:
        yield
    finally:
        with suppress(OSError):
            asker.shutdown(socket.SHUT_RDWR)


def _checked(name: str) -> str:
    """The name, if it is of an object of a job."""
    _job_of(name)
    return name


def _job_of(name: str) -> str:
    found = _NAME.fullmatch(name)
    if found is None or not layout.is_id(found["job"]):
        raise ValueError(f"not the name of an object of a job: {name!r}")
    return found["job"]


def _receive(asker: socket.socket) -> tuple[dict[str, Any], BinaryIO | None]:
    """An order and the file that came with it."""
    asker.settimeout(_PATIENCE_WITH_CHILDREN)
    said, ends, _, _ = socket.recv_fds(asker, 65536, 1)
    try:
        while piece := asker.recv(65536):
            said += piece
        order: dict[str, Any] = dict(json.loads(said))
        return order, _opened(ends[0], str(order["do"])) if ends else None
    except BaseException:
        for end in ends:
            os.close(end)
        raise


def _opened(end: int, what: str) -> BinaryIO:
    """The file, if it is one: from a pipe, say, a thread would read for ever."""
    if not stat.S_ISREG(os.fstat(end).st_mode):
        raise ValueError("not a file")
    return os.fdopen(end, "rb" if what == "put" else "wb")


class RemoteObjects:
    """The bucket as a child of the worker sees it: as `Objects`, by way of the main process."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    def put(self, name: str, content: bytes | BinaryIO) -> None:
        if isinstance(content, bytes):
            with _in_memory(content) as file:
                self._order({"do": "put", "name": name}, file)
        else:
            self._order({"do": "put", "name": name}, content)

    def find(self, name: str) -> Found | None:
        row = self._order({"do": "find", "name": name})
        return _found(row) if row else None

    def get(self, found: Found, file: BinaryIO) -> None:
        self._order({"do": "get", "name": found.name}, file)

    def read(self, name: str) -> bytes | None:
        found = self.find(name)
        if found is None:
            return None
        with _in_memory(b"") as file:
            self.get(found, file)
            file.seek(0)
            return file.read()

    def below(self, prefix: str) -> Iterator[Found]:
        return map(_found, self._order({"do": "below", "name": prefix}))

    def delete(self, names: Sequence[str]) -> None:
        if names:
            self._order({"do": "delete", "names": list(names)})

    def probe(self) -> None:
        self._order({"do": "probe"})

    def _order(self, order: dict[str, Any], file: BinaryIO | None = None) -> Any:
        try:
            said = self._ask(json.dumps(order).encode(), file)
            answer = json.loads(said)
        except (OSError, ValueError) as error:
            raise errors.StorageUnavailable("the worker does not answer") from error
        if "code" in answer:
            kind = errors.by_code()[answer["code"]]
            raise kind(answer["detail"])
        return answer["answer"]

    def _ask(self, order: bytes, file: BinaryIO | None) -> bytes:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                socket.send_fds(self._control, [b"."], [theirs.fileno()])
            ours.settimeout(_PATIENCE)
            socket.send_fds(ours, [order[:65536]], [file.fileno()] if file else [])
            ours.sendall(order[65536:])
            ours.shutdown(socket.SHUT_WR)
            said = b""
            while piece := ours.recv(65536):
                said += piece
            return said


def _in_memory(content: bytes) -> BinaryIO:
    """A file that is on no disk."""
    file = cast("BinaryIO", os.fdopen(os.memfd_create("object"), "w+b"))
    file.write(content)
    file.flush()
    file.seek(0)
    return file


def _found(row: dict[str, Any]) -> Found:
    return Found(**row | {"changed": datetime.fromisoformat(row["changed"])})
