"""Transfers objects in a worker's main process for its children, which cannot access the bucket.

A child inherits a socket, over which it sends an order and an open file to read from or write to.
It never sends a path, so it cannot upload a file that it may not open itself.
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
from ocr_tasks.storage.s3 import ObjectInfo, Objects

log = logging.getLogger(__name__)

#: Maximum number of orders executed concurrently.
_CONCURRENCY = 16

#: Seconds that a child waits for a response.
_RESPONSE_SECONDS = 1800.0

#: Seconds that a child has to send its order.
_ORDER_SECONDS = 60.0

_NAME = re.compile(r"jobs/[0-9a-f]{2}/(?P<job>[0-9a-f-]{36})/(?:[\w-]+/)*(?:[\w-][\w.-]*)?")


class Broker(threading.Thread):
    """The thread of the main process that executes the orders of children."""

    def __init__(self, objects: Objects) -> None:
        super().__init__(name="broker", daemon=True)
        self._objects = objects
        self._ours, self.children_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._slots = threading.Semaphore(_CONCURRENCY)
        self._after: Callable[[str], None] = lambda job_id: None

    def begin(self, after: Callable[[str], None]) -> None:
        """Starts the thread. Calls `after(job_id)` after each upload for a job."""
        self._after = after
        self.start()

    def end(self) -> None:
        """Stops the thread. Orders that are being executed are completed."""
        self._ours.shutdown(socket.SHUT_RDWR)
        self.join()
        self._ours.close()
        self.children_end.close()

    def run(self) -> None:
        while True:
            data, descriptors, _, _ = socket.recv_fds(self._ours, 1, 1)
            if not data:
                return
            for descriptor in descriptors:
                self._slots.acquire()
                connection = socket.socket(fileno=descriptor)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        job_id = ""
        try:
            with connection, _shut_down(connection):
                order, file = _receive(connection)
                try:
                    response: dict[str, Any] = {"answer": self._execute(order, file)}
                    job_id = _job_of(order["name"]) if order["do"] == "put" else ""
                except errors.ServiceError as error:
                    response = {"code": error.code, "detail": error.detail}
                finally:
                    if file:
                        file.close()
                connection.sendall(json.dumps(response, default=datetime.isoformat).encode())
        except (OSError, ValueError, KeyError) as error:
            log.warning("a storage order of a child process failed: %s", error)
        finally:
            self._slots.release()
            if job_id:
                self._call_after(job_id)

    def _call_after(self, job_id: str) -> None:
        try:
            self._after(job_id)
        except Exception:  # the hourly cleanup deletes leftover files
            log.exception("the check after an upload for job %s failed", job_id)

    def _execute(self, order: dict[str, Any], file: BinaryIO | None) -> Any:
        objects, name = self._objects, str(order.get("name", ""))
        match order["do"]:
            case "probe":
                return objects.probe()
            case "find":
                info = objects.find(_checked(name))
                return asdict(info) if info else None
            case "below":
                return [asdict(info) for info in objects.below(_checked(name))]
            case "delete":
                return objects.delete([_checked(str(row)) for row in order["names"]])
            case "put" if file:
                return objects.put(_checked(name), file)
            case "get" if file:
                info = objects.find(_checked(name))
                if info is None:
                    raise errors.StorageUnavailable("The object was deleted during the transfer")
                with layout.storage_errors():
                    objects.get(info, file)
                    file.flush()
                return None
            case unknown:
                raise ValueError(f"unknown order: {unknown}")


@contextmanager
def _shut_down(connection: socket.socket) -> Iterator[None]:
    """Shuts a connection down at the end of the block.

    Closing it would not end the connection if a child forked in the meantime has inherited it.
    """
    try:
        yield
    finally:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def _checked(name: str) -> str:
    """Returns the name if it is the key of a job's object, else raises ValueError."""
    _job_of(name)
    return name


def _job_of(name: str) -> str:
    match = _NAME.fullmatch(name)
    if match is None or not layout.is_id(match["job"]):
        raise ValueError(f"not the key of a job's object: {name!r}")
    return match["job"]


def _receive(connection: socket.socket) -> tuple[dict[str, Any], BinaryIO | None]:
    """Receives an order and the file that was sent with it, if any."""
    connection.settimeout(_ORDER_SECONDS)
    data, descriptors, _, _ = socket.recv_fds(connection, 65536, 1)
    try:
        while chunk := connection.recv(65536):
            data += chunk
        order: dict[str, Any] = dict(json.loads(data))
        return order, _open(descriptors[0], str(order["do"])) if descriptors else None
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def _open(descriptor: int, action: str) -> BinaryIO:
    """Opens a file descriptor. Only regular files are allowed: a pipe could block forever."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise ValueError("not a regular file")
    return os.fdopen(descriptor, "rb" if action == "put" else "wb")


class RemoteObjects:
    """The bucket in a child of a worker: like `Objects`, but through the main process."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    def put(self, name: str, content: bytes | BinaryIO) -> None:
        if isinstance(content, bytes):
            with _in_memory(content) as file:
                self._order({"do": "put", "name": name}, file)
        else:
            self._order({"do": "put", "name": name}, content)

    def find(self, name: str) -> ObjectInfo | None:
        row = self._order({"do": "find", "name": name})
        return _object_info(row) if row else None

    def get(self, info: ObjectInfo, file: BinaryIO) -> None:
        self._order({"do": "get", "name": info.name}, file)

    def read(self, name: str) -> bytes | None:
        info = self.find(name)
        if info is None:
            return None
        with _in_memory(b"") as file:
            self.get(info, file)
            file.seek(0)
            return file.read()

    def below(self, prefix: str) -> Iterator[ObjectInfo]:
        return map(_object_info, self._order({"do": "below", "name": prefix}))

    def delete(self, names: Sequence[str]) -> None:
        if names:
            self._order({"do": "delete", "names": list(names)})

    def probe(self) -> None:
        self._order({"do": "probe"})

    def _order(self, order: dict[str, Any], file: BinaryIO | None = None) -> Any:
        try:
            response = json.loads(self._exchange(json.dumps(order).encode(), file))
        except (OSError, ValueError) as error:
            raise errors.StorageUnavailable("The worker does not respond") from error
        if "code" in response:
            kind = errors.by_code()[response["code"]]
            raise kind(response["detail"])
        return response["answer"]

    def _exchange(self, order: bytes, file: BinaryIO | None) -> bytes:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                socket.send_fds(self._control, [b"."], [theirs.fileno()])
            ours.settimeout(_RESPONSE_SECONDS)
            socket.send_fds(ours, [order[:65536]], [file.fileno()] if file else [])
            ours.sendall(order[65536:])
            ours.shutdown(socket.SHUT_WR)
            received = b""
            while chunk := ours.recv(65536):
                received += chunk
            return received


def _in_memory(content: bytes) -> BinaryIO:
    """Returns a file in memory with this content."""
    file = cast("BinaryIO", os.fdopen(os.memfd_create("object"), "w+b"))
    file.write(content)
    file.flush()
    file.seek(0)
    return file


def _object_info(row: dict[str, Any]) -> ObjectInfo:
    return ObjectInfo(**row | {"changed": datetime.fromisoformat(row["changed"])})
