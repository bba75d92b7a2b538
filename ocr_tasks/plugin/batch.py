"""What helpers of a job work on: the files of a batch, in the job's work folder.

    batches/<n>/task       OCRmyPDF's task and what to call first in each process
                items      the arguments of each item, one pickle after the other
                index.json where each of them begins
                <item>.<reader>   what a helper found

These are pickles: only workers can write there. Redis carries nothing but numbers (`pages`).
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pikepdf
from ocrmypdf._jobcontext import PageContext
from ocrmypdf._options import OcrOptions
from ocrmypdf._plugin_manager import OcrmypdfPluginManager
from ocrmypdf.api import setup_plugin_infrastructure

from ocr_tasks.storage import atomic

Task = Callable[..., Any]
Initializer = Callable[[], None]


@dataclass(frozen=True)
class Files:
    """The files of one batch."""

    folder: Path

    def write(self, task: Task, initializer: Initializer, arguments: Iterable[Any]) -> None:
        """Writes everything that helpers need.

        Raises:
            pickle.PicklingError, TypeError, AttributeError: if something cannot leave this process.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        offsets = []
        with (self.folder / "items").open("wb") as items:
            for argument in arguments:
                offsets.append(items.tell())
                items.write(_pickled(argument))
        atomic.write(self.folder / "index.json", json.dumps(offsets).encode())
        atomic.write(self.folder / "task", _pickled((task, initializer)))

    def task(self) -> tuple[Task, Initializer]:
        """The task and what to call before it.

        Raises:
            FileNotFoundError: if the batch is over, or its folder is not on this host.
        """
        with (self.folder / "task").open("rb") as file:
            task, initializer = _Unpickler(file).load()
        return task, initializer

    def argument(self, item: int) -> Any:
        """The arguments of an item."""
        offsets = json.loads((self.folder / "index.json").read_bytes())
        with (self.folder / "items").open("rb") as file:
            file.seek(offsets[item])
            return _Unpickler(file).load()

    def write_answer(self, item: int, reader: str, answer: Any) -> None:
        """Keeps what a helper found."""
        atomic.write(self._answer(item, reader), _pickled(answer))

    def take_answer(self, item: int, reader: str) -> Any:
        """What a helper found; its file goes."""
        path = self._answer(item, reader)
        with path.open("rb") as file:
            answer = _Unpickler(file).load()
        path.unlink()
        return answer

    def _answer(self, item: int, reader: str) -> Path:
        return self.folder / f"{item}.{reader}"


def _pickled(thing: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(thing)
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    """Leaves out what each process has of its own."""

    def reducer_override(self, thing: Any) -> Any:
        """See pickle. OCRmyPDF's own way of pickling a page fails where pages are chosen."""
        if not isinstance(thing, PageContext):
            return NotImplemented
        options = thing.options.model_copy(update={"pages": None}).model_dump_json_safe()
        state = {name: part for name, part in vars(thing).items() if name != "options"}
        return _page_context, (state, options, thing.options.pages)

    def persistent_id(self, thing: Any) -> tuple[str, Any] | None:
        if isinstance(thing, OcrmypdfPluginManager):
            return "plugins", tuple(thing._plugins)
        if isinstance(thing, pikepdf.Pdf):
            return "pdf", None
        return None


def _page_context(state: dict[str, Any], options: str, pages: set[int] | None) -> PageContext:
    page = PageContext.__new__(PageContext)
    vars(page).update(state)
    page.options = OcrOptions.model_validate_json_safe(options)
    page.options.pages = pages
    return page


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, reference: tuple[str, Any]) -> Any:
        kind, what = reference
        return _plugin_manager(what) if kind == "plugins" else None


_managers: dict[tuple[str, ...], OcrmypdfPluginManager] = {}


def _plugin_manager(plugins: tuple[str, ...]) -> OcrmypdfPluginManager:
    """OCRmyPDF's plugins, set up once in a process."""
    if plugins not in _managers:
        _managers[plugins] = setup_plugin_infrastructure(plugins)
    return _managers[plugins]
