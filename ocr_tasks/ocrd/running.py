"""Runs a processor of OCR-D on a workspace, once.

The processor works on a METS file of its own, `.mets-<run>.xml` beside the real one, with its pages
alone. What it changes there is put into the real one afterwards (`mets_files`), so that several can
work on a workspace at the same time.
A run that is killed leaves that file and files of pages that no METS file names; the next run of
the same pages simply writes these again.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocr_tasks import errors, settings
from ocr_tasks.ocrd import built_in, mets_files, programs, recognition, tools, warm_pool
from ocr_tasks.ocrd.mets import mets
from ocr_tasks.ocrd.mets.mets import Mets
from ocr_tasks.ocrd.model import RECOGNIZE
from ocr_tasks.ocrd.recognition import Existing
from ocr_tasks.storage import layout

#: Bytes at the end of a log in which the error is looked for, and characters of it that are told.
_TAIL = 1 << 16
_LENGTH = 500

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}")

#: Our levels of logs that OCR-D calls otherwise.
_LEVELS = {"DEBUG": "DEBUG", "WARNING": "WARN", "ERROR": "ERROR"}

#: A line of OCR-D's log: https://ocr-d.de/en/spec/cli#logging
_ERROR = re.compile(r"\d\d:\d\d:\d\d\.\d{3} (?:ERROR|CRITICAL) [^ ]+ - (.*)")


@dataclass(frozen=True, slots=True)
class Order:
    """A run that is wanted. `key` is that of the workspace; `pages` are ids, None means all.

    `run_id` is made by us, and no other run that may still be at it has the same. `one_of_many`
    runs of a page each, whose output need not be in the METS file at once.
    """

    executable: str
    mets: Path
    key: str
    input_file_grps: tuple[str, ...]
    output_file_grps: tuple[str, ...]
    pages: list[str] | None
    parameters: dict[str, Any]
    run_id: str
    one_of_many: bool = False

    @property
    def own_mets(self) -> Path:
        """The METS file of this run alone."""
        return _own_mets(self.mets, self.run_id)


@dataclass(frozen=True, slots=True)
class _Work:
    """What is left to do: pages as OCR-D is told of them, and what happens to old output."""

    page_id: str
    existing_output: Existing


def run(
    order: Order,
    log: Path,
    scratch: Path | None = None,
    should_yield: Callable[[], bool] = lambda: False,
) -> bool:
    """Runs a processor; what it prints is appended to the log.

    The built-in processor runs in this process, with its temporary files in the folder `scratch`;
    others, and this one where none is given, have a folder in their home. It alone asks after each
    page whether its turn is over. If so, and if existing output is skipped, this returns False: the
    next run of the order does the other pages.
    """
    if not _RUN_ID.fullmatch(order.run_id):
        raise ValueError(f"not an id of a run: {order.run_id!r}")
    path = tools.find(order.executable) if order.executable != RECOGNIZE else None
    if path is None and order.executable != RECOGNIZE:
        raise errors.ToolMissing(f"{order.executable} is not installed on this worker.")
    temporary = programs.temporary(order.run_id) if path or scratch is None else scratch
    forget(order.mets, order.run_id)
    try:
        with layout.storage_errors():
            temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
        groups = (*order.input_file_grps, *order.output_file_grps)
        before = mets_files.excerpt(order.mets, order.pages, groups)
        work = _work(order, before)
        if work is None:
            _note(log, "All pages have output already; nothing is left to do.")
            return True
        with layout.storage_errors():
            before.write(order.own_mets)
        finished = True
        if path:
            _process(path, order, work, log)
        else:
            finished = _recognize(order, work, log, temporary, should_yield)
        changes = Mets.read(order.own_mets)
        changes.drop_all_but_changes(before)
        page = order.pages[0] if order.one_of_many and order.pages else ""
        mets_files.put(order.mets, order.key, order.run_id, changes, page)
        return finished
    finally:
        forget(order.mets, order.run_id)


def _own_mets(mets_file: Path, run_id: str) -> Path:
    return mets_file.with_name(f".mets-{run_id}.xml")


def forget(mets_file: Path, run_id: str) -> None:
    """Removes what a run leaves behind if it is killed."""
    with suppress(FileNotFoundError):
        _own_mets(mets_file, run_id).unlink()
    shutil.rmtree(programs.temporary(run_id), ignore_errors=True)


# Before


def _work(order: Order, found: Mets) -> _Work | None:
    """What is left to do; None if nothing is."""
    _check(order, found)
    inputs = set[str]().union(*(found.pages_of(group) for group in order.input_file_grps))
    asked = [p for p in found.pages if p in inputs] if order.pages is None else order.pages
    with_output = [_pages_with(found, group) for group in order.output_file_grps]
    begun = set[str]().union(*with_output).intersection(asked)
    done = begun.intersection(*with_output)
    wish = settings.get().ocrd_existing_output
    if wish == "abort" and begun:
        raise errors.ProcessorFailed(f"There is already output for {_some(asked, begun)}.")
    left = [page for page in asked if page not in done] if wish == "skip" else asked
    if asked and not left:
        return None
    # Where a page has some of its output only, that is made anew.
    again = not begun.isdisjoint(left)
    everything = order.pages is None and not any(
        map(found.groups.__contains__, order.output_file_grps)
    )
    return _Work("" if everything else ",".join(left), "OVERWRITE" if again else "SKIP")


def _check(order: Order, found: Mets) -> None:
    """Makes sure that what becomes arguments of a program is what it seems."""
    for group in order.input_file_grps:
        if group not in found.groups:
            raise errors.ProcessorFailed(f"The METS file has no file group {group!r}.")
    for group in (*order.input_file_grps, *order.output_file_grps):
        if not mets.is_group_name(group):
            raise errors.ProcessorFailed(f"{group!r} is not a valid name of a file group.")
    for page in order.pages or found.pages:
        if not mets.is_page_id(page):
            raise errors.ProcessorFailed(f"{page!r} is not a valid page id.")


def _pages_with(found: Mets, group: str) -> set[str]:
    """Pages that have files in a group; all, if its files are of no page but of the whole."""
    pages = found.pages_of(group)
    return set(found.pages) if not pages and found.files(group) else pages


def _some(order: list[str], pages: set[str]) -> str:
    few = [page for page in order if page in pages]
    return ", ".join(few[:3]) + (f" and {len(few) - 3} more" if len(few) > 3 else "")


# The run itself


def _process(path: Path, order: Order, work: _Work, log: Path) -> None:
    """Has the processor do it: one that is loaded, or a program of its own."""
    begin = log.stat().st_size if log.exists() else 0
    try:
        answer = warm_pool.run(path, _in_json(order, work, log), log)
    except warm_pool.CannotBeKept:
        status = _call(path, order, work, log)
        if status:
            reason = _last_error(log, begin, order) or warm_pool.in_words(status)
            raise errors.ProcessorFailed(reason, exit_status=status) from None
    except warm_pool.Died as error:
        _note(log, str(error), "CRITICAL")
        raise errors.ProcessorFailed(str(error)) from error
    else:
        if not answer.get("ok"):
            reason = _last_error(log, begin, order) or str(answer.get("error", ""))
            raise errors.ProcessorFailed(_for_others(reason, order))


def _in_json(order: Order, work: _Work, log: Path) -> dict[str, Any]:
    """The order in the words of `warm`."""
    return {
        "run": order.run_id,
        "folder": str(order.mets.parent),
        "mets": order.own_mets.name,
        "input_file_grps": list(order.input_file_grps),
        "output_file_grps": list(order.output_file_grps),
        "page_id": work.page_id,
        "parameters": order.parameters,
        "existing_output": work.existing_output,
        "log": str(log),
        "tmp": str(programs.temporary(order.run_id)),
    }


def _call(path: Path, order: Order, work: _Work, log: Path) -> int:
    """Calls the processor as a program, by the rules of https://ocr-d.de/en/spec/cli.

    Returns its exit status.
    """
    # Options and values apart, as processors in Bash know no `--option=value`. No value can be
    # taken for an option: `_check` has seen names and ids, and the others begin with / or {.
    options = {
        "--working-dir": str(order.mets.parent),
        "--mets": str(order.own_mets),
        "--input-file-grp": ",".join(order.input_file_grps),
        "--output-file-grp": ",".join(order.output_file_grps),
        "--page-id": work.page_id,
        "--parameter": json.dumps(order.parameters),
        "--log-level": _LEVELS.get(settings.get().log_level, "INFO"),
    }
    command = [str(path)]
    for option, value in options.items():
        command += [option, value] if value else []
    command += ["--overwrite"] if work.existing_output == "OVERWRITE" else []
    environment = programs.environment(
        TMPDIR=str(programs.temporary(order.run_id)),
        OCRD_EXISTING_OUTPUT=work.existing_output,
    )
    with log.open("ab") as words:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                env=environment,
                cwd=programs.home(),
            )
        except OSError as error:  # such as more pages than a command line holds
            raise errors.ProcessorFailed(
                f"The processor cannot be started: {error.strerror}."
            ) from error
        with process:
            try:
                return process.wait()
            except BaseException:
                process.kill()
                raise


def _recognize(
    order: Order, work: _Work, log: Path, temporary: Path, should_yield: Callable[[], bool]
) -> bool:
    """Runs the built-in processor, in this process. False: pages are left."""
    asked = recognition.Order(
        folder=order.mets.parent,
        mets=order.own_mets,
        input_file_grp=order.input_file_grps[0],
        output_file_grp=order.output_file_grps[0],
        page_id=work.page_id,
        parameters=order.parameters,
        existing=work.existing_output,
    )
    if settings.get().ocrd_existing_output != "skip" or work.existing_output != "SKIP":
        should_yield = bool  # the next run would not know which pages are done
    try:
        return built_in.run(asked, log, temporary, should_yield)
    except errors.ProcessorFailed as error:
        raise errors.ProcessorFailed(_for_others(error.detail, order)) from error


# The log


def _note(log: Path, text: str, level: str = "INFO") -> None:
    """Appends a line of ours to the log of a processor, in its form."""
    now = time.time()
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    with log.open("a") as words:
        words.write(f"{clock}.{int(now % 1 * 1000):03d} {level} ocr_tasks.ocrd.running - {text}\n")


def _last_error(log: Path, begin: int, order: Order) -> str:
    """The last error that a run has logged since `begin`, else its last line."""
    with log.open("rb") as words:
        words.seek(max(begin, log.stat().st_size - _TAIL))
        lines = words.read(_TAIL).decode(errors="replace").splitlines()
    told = [(place, match[1]) for place, line in enumerate(lines) if (match := _ERROR.match(line))]
    plain = [line for line in lines if line.strip()]
    if not told:
        return _for_others(plain[-1] if plain else "", order)
    place, text = told[-1]
    stack = [line for line in lines[place + 1 :] if re.match(r"[A-Za-z_][\w.]*(: |$)", line)]
    if "Traceback (most recent call last):" in lines[place + 1 :] and stack:
        text = text if stack[-1] in text else f"{text}: {stack[-1]}"
    return _for_others(text, order)


def _for_others(text: str, order: Order) -> str:
    """A line of a log in short, without what tells how this machine is laid out."""
    for folder in (order.mets.parent, settings.get().data_dir):
        text = text.replace(f"{folder}/", "").replace(str(folder), "…")
    text = " ".join(text.split())
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}…"
