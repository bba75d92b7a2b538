"""Keeps a processor of OCR-D loaded, and runs it again and again: a program of its own.

It is run by the interpreter that the processor is installed for, so it needs nothing but Python 3.9
and what the processor brings along. `running` starts it and speaks to it:

    python warm.py /path/of/ocrd-x --serve FD

- Orders come in on standard input, answers go out on the descriptor FD: each a JSON object in one
  line, UTF-8. Standard output and error are for what processors print; they find nothing to read.
- First it loads what it needs. What is printed meanwhile goes to where it was started to print.
  Then it says {"ready": true}, or {"ready": false, "error": "why"} and ends.
- An order is one run, and the next one comes after its answer:
    run                the id of the run
    folder             absolute path of the folder of the workspace; hrefs are relative to it
    mets               name of the METS file in there, which is this run's alone: it is read, and
                       written whole once the run has succeeded
    input_file_grps    list of names
    output_file_grps   list of names
    page_id            ids of pages, joined by commas; '' for all
    parameters         object, checked, with its defaults
    existing_output    SKIP, OVERWRITE or ABORT: what happens to pages that have output already
    log                path of a file; all that is printed during the run is appended to it
    tmp                a folder for temporary files, which is removed after the run
- The answer is {"run": id, "ok": true}, or {"run": id, "ok": false, "error": "a line"}; the
  log says more then. What is an error is logged as OCR-D does: `HH:MM:SS.mmm ERROR logger - text`.
- It ends when its input ends, at once, in the middle of a run as well: nobody waits for it then.
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

#: Characters of an error at most; OCR-D puts the whole workspace into some.
MOST = 1000


class _Loaded(BaseException):
    """Leads the class of a processor past whatever its script catches."""

    def __init__(self, cls: Any) -> None:
        super().__init__()
        self.cls = cls


def main() -> int:
    parser = argparse.ArgumentParser(description="Keeps a processor of OCR-D loaded.")
    parser.add_argument("--serve", type=int, required=True, metavar="FD")
    parser.add_argument("script", help="the processor: a script of Python")
    asked = parser.parse_args()
    orders = listen()
    with os.fdopen(asked.serve, "w", encoding="utf-8", buffering=1) as answers:
        os.set_inheritable(asked.serve, False)
        try:
            cls = load(asked.script)
        except (Exception, SystemExit) as error:  # whatever a script may do
            say(answers, {"ready": False, "error": in_a_line(error)})
            return 3
        say(answers, {"ready": True})
        point_output_to(os.devnull)
        seconds, _ = resource.getrlimit(resource.RLIMIT_CPU)
        while True:
            order = orders.get()
            allow_cpu(seconds)
            say(answers, {"run": order["run"], **answer(cls, order)})


def listen() -> queue.SimpleQueue[dict[str, Any]]:
    """The orders as they come in; the end of the input ends this process, whatever it does."""
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    source = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def read() -> None:
        for line in source:
            orders.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return orders


def say(answers: IO[str], what: dict[str, Any]) -> None:
    answers.write(json.dumps(what) + "\n")


def load(script: str) -> Any:
    """The class of the processor, which its script hands to OCR-D as it starts a worker."""
    decorators: Any = importlib.import_module("ocrd.decorators")

    def instead_of_a_worker(cls: Any, *_: Any) -> None:
        raise _Loaded(cls)

    decorators.check_and_run_processing_worker = instead_of_a_worker
    processor: Any = importlib.import_module("ocrd").Processor
    if "executable" in vars(processor):  # else taken from the name of this script
        processor.executable = os.path.basename(script)  # noqa: PTH119  # text, for OCR-D
    # Addresses of the right form; nobody connects to them.
    addresses = ("--queue", "amqp://a:b@localhost:1/", "--database", "mongodb://localhost:1")
    sys.argv = [script, "worker", *addresses]
    try:
        runpy.run_path(script, run_name="__main__")
    except _Loaded as loaded:
        return loaded.cls
    raise RuntimeError("the script does not run a class of OCR-D")


def allow_cpu(seconds: int) -> None:
    """Gives a run all the seconds that this process was started with, whatever others have used."""
    if seconds != resource.RLIM_INFINITY:
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        soft = int(time.process_time()) + seconds
        soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def answer(cls: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Runs the processor, with its words in the log of the order."""
    home = os.getcwd()  # noqa: PTH109  # what follows is OCR-D's
    with words_in(order["log"]):
        try:
            run(cls, order)
        except (Exception, SystemExit) as error:
            # OCR-D has shown the stack of what goes wrong in the middle, but not of all else.
            frames = traceback.extract_tb(error.__traceback__)
            shown = any(frame.name == "process_workspace" for frame in frames)
            log.critical("%s", in_a_line(error), exc_info=not shown)
            return {"ok": False, "error": in_a_line(error)}
        finally:
            os.chdir(home)
    return {"ok": True}


def run(cls: Any, order: dict[str, Any]) -> None:
    """One run of the processor."""
    ocrd: Any = importlib.import_module("ocrd")
    os.environ["OCRD_EXISTING_OUTPUT"] = order["existing_output"]
    os.environ["TMPDIR"] = tempfile.tempdir = order["tmp"]  # OCR-D has set it to /tmp
    folder = os.path.realpath(order["folder"])
    mets = os.path.join(folder, order["mets"])  # noqa: PTH118  # OCR-D takes text
    ocrd.run_processor(
        cls,
        workspace=ocrd.Resolver().workspace_from_url(
            mets, dst_dir=folder, mets_basename=order["mets"]
        ),
        input_file_grp=",".join(order["input_file_grps"]),
        output_file_grp=",".join(order["output_file_grps"]),
        page_id=order["page_id"] or None,
        parameter={name: hashable(value) for name, value in order["parameters"].items()},
        instance_caching=True,
    )


class _List(list):  # type: ignore[type-arg]
    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True))


class _Dict(dict):  # type: ignore[type-arg]
    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True))


def hashable(value: Any) -> Any:
    """The value of a parameter in a form by which OCR-D can remember the processor."""
    if isinstance(value, list):
        return _List(value)
    return _Dict(value) if isinstance(value, dict) else value


def in_a_line(error: BaseException) -> str:
    """What went wrong, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:MOST]


@contextmanager
def words_in(path: str) -> Iterator[None]:
    """Appends to a file all that is printed, by programs that are started as well."""
    point_output_to(path)
    try:
        yield
    finally:
        point_output_to(os.devnull)


def point_output_to(path: str) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)  # what libraries in C have not written yet
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


if __name__ == "__main__":
    sys.exit(main())
