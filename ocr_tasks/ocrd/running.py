"""Runs an OCR-D processor on a workspace once.

The processor works on its own METS file, `.mets-<run>.xml` next to the workspace's, which contains
only its pages. Its changes are merged into the workspace's METS file afterwards (`mets_files`), so
several runs can work on a workspace at the same time.

A run that is killed leaves that file, and page files that no METS file references. The next run of
the same pages overwrites them.
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
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import settings as ocrd_settings
from ocr_tasks.ocrd.mets import mets
from ocr_tasks.ocrd.mets.mets import Mets
from ocr_tasks.ocrd.model import RECOGNIZE
from ocr_tasks.ocrd.recognition import Existing
from ocr_tasks.storage import layout

#: Bytes at the end of a log that are searched for an error, and the error's maximum characters.
_TAIL_BYTES = 1 << 16
_MAX_ERROR_LENGTH = 500

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}")

#: OCR-D's names of log levels.
_LEVELS = {"DEBUG": "DEBUG", "WARNING": "WARN", "ERROR": "ERROR"}

#: A line of OCR-D's log: https://ocr-d.de/en/spec/cli#logging
_ERROR = re.compile(r"\d\d:\d\d:\d\d\.\d{3} (?:ERROR|CRITICAL) [^ ]+ - (.*)")


@dataclass(frozen=True, slots=True)
class Order:
    """A requested run. `key` is that of the workspace; `pages` are page ids, or None for all.

    `run_id` is unique among runs that may still be active. `one_of_many` is true for one of many
    runs with one page each, whose output need not be merged into the METS file at once.
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
        """The path of this run's own METS file."""
        return _own_mets(self.mets, self.run_id)


@dataclass(frozen=True, slots=True)
class _Remaining:
    """The pages that are still to be processed, as OCR-D's page_id, and how to treat old output."""

    page_id: str
    existing_output: Existing


def run(
    order: Order,
    log: Path,
    scratch: Path | None = None,
    should_yield: Callable[[], bool] = lambda: False,
) -> bool:
    """Runs a processor; its output is appended to the log. Returns whether all pages are done.

    The built-in processor runs in this process, with its temporary files in the folder `scratch`;
    other processors, and this one without `scratch`, have a folder in `programs.home`.

    The built-in processor calls `should_yield` after each page. If that is true, and existing
    output is skipped, this returns False, and the next run of the same order processes the other
    pages.
    """
    if not _RUN_ID.fullmatch(order.run_id):
        raise ValueError(f"invalid run id: {order.run_id!r}")
    path = tools.find(order.executable) if order.executable != RECOGNIZE else None
    if path is None and order.executable != RECOGNIZE:
        raise errors.ToolMissing(f"{order.executable} is not installed on this worker.")
    temporary = programs.temporary(order.run_id) if path or scratch is None else scratch
    delete_files(order.mets, order.run_id)
    try:
        with layout.storage_errors():
            temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
        groups = (*order.input_file_grps, *order.output_file_grps)
        before = mets_files.excerpt(order.mets, order.pages, groups)
        remaining = _remaining(order, before)
        if remaining is None:
            _append_log(log, "All pages already have output.")
            return True
        with layout.storage_errors():
            before.write(order.own_mets)
        finished = True
        if path:
            _run_external(path, order, remaining, log)
        else:
            finished = _recognize(order, remaining, log, temporary, should_yield)
        changes = Mets.read(order.own_mets)
        changes.keep_only_changes(before)
        page = order.pages[0] if order.one_of_many and order.pages else ""
        mets_files.put(order.mets, order.key, order.run_id, changes, page)
        return finished
    finally:
        delete_files(order.mets, order.run_id)


def _own_mets(mets_file: Path, run_id: str) -> Path:
    return mets_file.with_name(f".mets-{run_id}.xml")


def delete_files(mets_file: Path, run_id: str) -> None:
    """Deletes the files that a killed run leaves behind."""
    with suppress(FileNotFoundError):
        _own_mets(mets_file, run_id).unlink()
    shutil.rmtree(programs.temporary(run_id), ignore_errors=True)


# Preparation


def _remaining(order: Order, found: Mets) -> _Remaining | None:
    """Returns what is still to be processed, or None if everything is done."""
    _check(order, found)
    inputs = set[str]().union(*(found.pages_of(group) for group in order.input_file_grps))
    asked = [p for p in found.pages if p in inputs] if order.pages is None else order.pages
    with_output = [_pages_with(found, group) for group in order.output_file_grps]
    begun = set[str]().union(*with_output).intersection(asked)
    done = begun.intersection(*with_output)
    wish = ocrd_settings.get().ocrd_existing_output
    if wish == "abort" and begun:
        raise ocrd_errors.ProcessorFailed(f"There is already output for {_some(asked, begun)}.")
    left = [page for page in asked if page not in done] if wish == "skip" else asked
    if asked and not left:
        return None
    # A page with only part of its output is processed again.
    again = not begun.isdisjoint(left)
    everything = order.pages is None and not any(
        map(found.groups.__contains__, order.output_file_grps)
    )
    return _Remaining("" if everything else ",".join(left), "OVERWRITE" if again else "SKIP")


def _check(order: Order, found: Mets) -> None:
    """Checks the values that become command-line arguments."""
    for group in order.input_file_grps:
        if group not in found.groups:
            raise ocrd_errors.ProcessorFailed(f"The METS file has no file group {group!r}.")
    for group in (*order.input_file_grps, *order.output_file_grps):
        if not mets.is_group_name(group):
            raise ocrd_errors.ProcessorFailed(f"{group!r} is not a valid name of a file group.")
    for page in order.pages or found.pages:
        if not mets.is_page_id(page):
            raise ocrd_errors.ProcessorFailed(f"{page!r} is not a valid page id.")


def _pages_with(found: Mets, group: str) -> set[str]:
    """Returns the pages with files in a group; all, if its files do not belong to pages."""
    pages = found.pages_of(group)
    return set(found.pages) if not pages and found.files(group) else pages


def _some(order: list[str], pages: set[str]) -> str:
    few = [page for page in order if page in pages]
    return ", ".join(few[:3]) + (f" and {len(few) - 3} more" if len(few) > 3 else "")


# Execution


def _run_external(path: Path, order: Order, remaining: _Remaining, log: Path) -> None:
    """Runs a processor that is loaded (`warm_pool`), or starts its program."""
    begin = log.stat().st_size if log.exists() else 0
    try:
        response = warm_pool.run(path, _warm_request(order, remaining, log), log)
    except warm_pool.NotLoadable:
        status = _run_program(path, order, remaining, log)
        if status:
            reason = _last_error(log, begin, order) or warm_pool.describe_exit(status)
            raise ocrd_errors.ProcessorFailed(reason, exit_status=status) from None
    except warm_pool.ProcessorDied as error:
        _append_log(log, str(error), "CRITICAL")
        raise ocrd_errors.ProcessorFailed(str(error)) from error
    else:
        if not response.get("ok"):
            reason = _last_error(log, begin, order) or str(response.get("error", ""))
            raise ocrd_errors.ProcessorFailed(_redact(reason, order))


def _warm_request(order: Order, remaining: _Remaining, log: Path) -> dict[str, Any]:
    """Returns the request to `warm` for an order."""
    return {
        "run": order.run_id,
        "folder": str(order.mets.parent),
        "mets": order.own_mets.name,
        "input_file_grps": list(order.input_file_grps),
        "output_file_grps": list(order.output_file_grps),
        "page_id": remaining.page_id,
        "parameters": order.parameters,
        "existing_output": remaining.existing_output,
        "log": str(log),
        "tmp": str(programs.temporary(order.run_id)),
    }


def _run_program(path: Path, order: Order, remaining: _Remaining, log: Path) -> int:
    """Runs the processor's program with the options of https://ocr-d.de/en/spec/cli.

    Returns its exit status.
    """
    # Separate arguments, because Bash processors do not support `--option=value`. No value can be
    # mistaken for an option: `_check` checks names and ids, and the others begin with / or {.
    options = {
        "--working-dir": str(order.mets.parent),
        "--mets": str(order.own_mets),
        "--input-file-grp": ",".join(order.input_file_grps),
        "--output-file-grp": ",".join(order.output_file_grps),
        "--page-id": remaining.page_id,
        "--parameter": json.dumps(order.parameters),
        "--log-level": _LEVELS.get(settings.get().log_level, "INFO"),
    }
    command = [str(path)]
    for option, value in options.items():
        command += [option, value] if value else []
    command += ["--overwrite"] if remaining.existing_output == "OVERWRITE" else []
    environment = programs.environment(
        TMPDIR=str(programs.temporary(order.run_id)),
        OCRD_EXISTING_OUTPUT=remaining.existing_output,
    )
    with log.open("ab") as output:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=programs.home(),
            )
        except OSError as error:  # e.g. too many pages for a command line
            raise ocrd_errors.ProcessorFailed(
                f"The processor cannot be started: {error.strerror}."
            ) from error
        with process:
            try:
                return process.wait()
            except BaseException:
                process.kill()
                raise


def _recognize(
    order: Order,
    remaining: _Remaining,
    log: Path,
    temporary: Path,
    should_yield: Callable[[], bool],
) -> bool:
    """Runs the built-in processor in this process. Returns False if it has yielded."""
    asked = recognition.Order(
        folder=order.mets.parent,
        mets=order.own_mets,
        input_file_grp=order.input_file_grps[0],
        output_file_grp=order.output_file_grps[0],
        page_id=remaining.page_id,
        parameters=order.parameters,
        existing=remaining.existing_output,
    )
    if ocrd_settings.get().ocrd_existing_output != "skip" or remaining.existing_output != "SKIP":
        should_yield = bool  # the next run could not skip finished pages
    try:
        return built_in.run(asked, log, temporary, should_yield)
    except ocrd_errors.ProcessorFailed as error:
        raise ocrd_errors.ProcessorFailed(_redact(error.detail, order)) from error


# Log


def _append_log(log: Path, text: str, level: str = "INFO") -> None:
    """Appends a line to the log, in OCR-D's format."""
    now = time.time()
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    with log.open("a") as output:
        output.write(f"{clock}.{int(now % 1 * 1000):03d} {level} ocr_tasks.ocrd.running - {text}\n")


def _last_error(log: Path, begin: int, order: Order) -> str:
    """Returns the last error in the log after the offset `begin`, else the last line."""
    with log.open("rb") as output:
        output.seek(max(begin, log.stat().st_size - _TAIL_BYTES))
        lines = output.read(_TAIL_BYTES).decode(errors="replace").splitlines()
    found = [(i, match[1]) for i, line in enumerate(lines) if (match := _ERROR.match(line))]
    plain = [line for line in lines if line.strip()]
    if not found:
        return _redact(plain[-1] if plain else "", order)
    index, text = found[-1]
    stack = [line for line in lines[index + 1 :] if re.match(r"[A-Za-z_][\w.]*(: |$)", line)]
    if "Traceback (most recent call last):" in lines[index + 1 :] and stack:
        text = text if stack[-1] in text else f"{text}: {stack[-1]}"
    return _redact(text, order)


def _redact(text: str, order: Order) -> str:
    """Shortens a line of a log and removes paths of this machine, for clients."""
    for folder in (order.mets.parent, settings.get().data_dir):
        text = text.replace(f"{folder}/", "").replace(str(folder), "…")
    text = " ".join(text.split())
    return text if len(text) <= _MAX_ERROR_LENGTH else f"{text[:_MAX_ERROR_LENGTH]}…"
