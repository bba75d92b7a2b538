"""Loads an OCR-D processor once and runs it for each request: a separate program.

It runs with the interpreter for which the processor is installed, and needs only Python 3.9 and the
processor's own packages. `warm_pool` starts it and communicates with it:

    python warm.py /path/of/ocrd-x --serve FD

- Requests arrive on standard input; responses are written to the file descriptor FD. Each is a JSON
  object on one line, in UTF-8. For the processor, standard input is empty, and standard output and
  error go to the log.
- First it loads the processor, with the inherited standard output and error. Then it sends
  {"ready": true}, or {"ready": false, "error": "reason"} and exits.
- A request describes one run. The next one is processed after the response has been sent:
    run                id of the run
    folder             absolute path of the workspace's folder; hrefs are relative to it
    mets               name of a METS file in it that only this run uses; it is read, and replaced
                       after the run has succeeded
    input_file_grps    list of names
    output_file_grps   list of names
    page_id            comma-separated page ids; '' for all
    parameters         object, validated, with defaults
    existing_output    SKIP, OVERWRITE or ABORT: what to do with pages that already have output
    log                path of a file; all output during the run is appended to it
    tmp                folder for temporary files, which is deleted after the run
- The response is {"run": id, "ok": true}, or {"run": id, "ok": false, "error": "one line"}; the log
  has the details. Errors are logged in OCR-D's format: `HH:MM:SS.mmm ERROR logger - text`.
- It exits at once when standard input is closed, even during a run.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import logging
import os
import queue
import resource
import runpy
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

log = logging.getLogger("ocr_tasks.ocrd.warm")

#: Maximum characters of an error; some of OCR-D's contain the whole workspace.
MAX_ERROR_LENGTH = 1000


class _Loaded(BaseException):
    """Carries the processor's class out of its script, which must not catch it."""

    def __init__(self, cls: Any) -> None:
        super().__init__()
        self.cls = cls


def main() -> int:
    """Loads the processor and handles requests until standard input is closed."""
    parser = argparse.ArgumentParser(
        description="Loads an OCR-D processor once, and runs it for each request."
    )
    parser.add_argument("--serve", type=int, required=True, metavar="FD")
    parser.add_argument("script", help="the processor, a Python script")
    args = parser.parse_args()
    requests = read_requests()
    with os.fdopen(args.serve, "w", encoding="utf-8", buffering=1) as responses:
        os.set_inheritable(args.serve, False)
        try:
            cls = load(args.script)
        except (Exception, SystemExit) as error:  # the script may raise anything
            send(responses, {"ready": False, "error": one_line(error)})
            return 3
        send(responses, {"ready": True})
        point_output_to(os.devnull)
        seconds, _ = resource.getrlimit(resource.RLIMIT_CPU)
        while True:
            request = requests.get()
            allow_cpu(seconds)
            send(responses, {"run": request["run"], **handle(cls, request)})


def read_requests() -> queue.SimpleQueue[dict[str, Any]]:
    """Returns a queue of the requests; a thread fills it, and exits the process at the end."""
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    source = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def read() -> None:
        for line in source:
            requests.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return requests


def send(responses: IO[str], what: dict[str, Any]) -> None:
    """Writes a response."""
    responses.write(json.dumps(what) + "\n")


def load(script: str) -> Any:
    """Returns the processor's class, which its script passes to OCR-D to start a worker."""
    decorators: Any = importlib.import_module("ocrd.decorators")

    def capture(cls: Any, *_: Any) -> None:
        raise _Loaded(cls)

    decorators.check_and_run_processing_worker = capture
    processor: Any = importlib.import_module("ocrd").Processor
    if "executable" in vars(processor):  # otherwise OCR-D uses the name of this script
        processor.executable = os.path.basename(script)  # noqa: PTH119  # OCR-D requires a str
    # Valid URLs, to which nothing connects.
    urls = ("--queue", "amqp://a:b@localhost:1/", "--database", "mongodb://localhost:1")
    sys.argv = [script, "worker", *urls]
    try:
        runpy.run_path(script, run_name="__main__")
    except _Loaded as loaded:
        return loaded.cls
    raise RuntimeError("the script does not run an OCR-D processor")


def allow_cpu(seconds: int) -> None:
    """Raises the CPU limit to `seconds` more than this process has used."""
    if seconds != resource.RLIM_INFINITY:
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        soft = int(time.process_time()) + seconds
        soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def handle(cls: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Runs the processor with its output in the request's log, and returns the result."""
    home = os.getcwd()  # noqa: PTH109  # OCR-D changes the directory
    with output_to(request["log"]):
        try:
            run(cls, request)
        except (Exception, SystemExit) as error:
            # OCR-D logs the traceback of errors in process_workspace, but not of others.
            frames = traceback.extract_tb(error.__traceback__)
            shown = any(frame.name == "process_workspace" for frame in frames)
            log.critical("%s", one_line(error), exc_info=not shown)
            return {"ok": False, "error": one_line(error)}
        finally:
            os.chdir(home)
    return {"ok": True}


def run(cls: Any, request: dict[str, Any]) -> None:
    """Runs the processor once."""
    ocrd: Any = importlib.import_module("ocrd")
    os.environ["OCRD_EXISTING_OUTPUT"] = request["existing_output"]
    os.environ["TMPDIR"] = tempfile.tempdir = request["tmp"]  # OCR-D sets it to /tmp
    folder = os.path.realpath(request["folder"])
    mets = os.path.join(folder, request["mets"])  # noqa: PTH118  # OCR-D requires a str
    ocrd.run_processor(
        cls,
        workspace=ocrd.Resolver().workspace_from_url(
            mets, dst_dir=folder, mets_basename=request["mets"]
        ),
        input_file_grp=",".join(request["input_file_grps"]),
        output_file_grp=",".join(request["output_file_grps"]),
        page_id=request["page_id"] or None,
        parameter={name: hashable(value) for name, value in request["parameters"].items()},
        instance_caching=True,
    )


class _List(list):  # type: ignore[type-arg]
    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True))


class _Dict(dict):  # type: ignore[type-arg]
    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True))


def hashable(value: Any) -> Any:
    """Returns a parameter's value in a hashable form, for OCR-D's cache of processors."""
    if isinstance(value, list):
        return _List(value)
    return _Dict(value) if isinstance(value, dict) else value


def one_line(error: BaseException) -> str:
    """Returns the type and text of an error in one line of at most MAX_ERROR_LENGTH characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:MAX_ERROR_LENGTH]


@contextmanager
def output_to(path: str) -> Iterator[None]:
    """Appends all output to a file, including that of child processes."""
    point_output_to(path)
    try:
        yield
    finally:
        point_output_to(os.devnull)


def point_output_to(path: str) -> None:
    """Redirects standard output and error to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)  # buffers of C libraries
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


if __name__ == "__main__":
    sys.exit(main())
