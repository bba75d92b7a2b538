"""The files of a batch: the work that helpers share, in the job's work folder.

    batches/<n>/task       OCRmyPDF's task, and an initializer to call once in each process
                items      the arguments of each item, as consecutive pickles
                index.json the offset of each item in `items`
                <item>.<holder>   the result of a helper

The files are pickles, which is safe because only workers can write to this folder. Redis contains
only item numbers (`jobs.page_queue`).
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

        Raises pickle.PicklingError, TypeError or AttributeError if an object cannot be pickled.
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
        """Returns the task and its initializer.

        Raises FileNotFoundError if the batch has ended or its folder is not on this host.
        """
        with (self.folder / "task").open("rb") as file:
            task, initializer = _Unpickler(file).load()
        return task, initializer

    def argument(self, item: int) -> Any:
        """Returns the arguments of an item, numbered from 0."""
        offsets = json.loads((self.folder / "index.json").read_bytes())
        with (self.folder / "items").open("rb") as file:
            file.seek(offsets[item])
            return _Unpickler(file).load()

    def write_result(self, item: int, holder: str, result: Any) -> None:
        """Stores the result of a helper. `holder` is the helper's id."""
        atomic.write(self._result(item, holder), _pickled(result))

    def pop_result(self, item: int, holder: str) -> Any:
        """Returns the result of a helper and deletes its file."""
        path = self._result(item, holder)
        with path.open("rb") as file:
            result = _Unpickler(file).load()
        path.unlink()
        return result

    def _result(self, item: int, holder: str) -> Path:
        return self.folder / f"{item}.{holder}"


def _pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    """A pickler that omits objects of which each process has its own: plugins and open PDFs."""

    def reducer_override(self, obj: Any) -> Any:
        """Pickles pages, because OCRmyPDF's own method fails if the option `pages` is set."""
        if not isinstance(obj, PageContext):
            return NotImplemented
        options = obj.options.model_copy(update={"pages": None}).model_dump_json_safe()
        state = {name: value for name, value in vars(obj).items() if name != "options"}
        return _page_context, (state, options, obj.options.pages)

    def persistent_id(self, obj: Any) -> tuple[str, Any] | None:
        if isinstance(obj, OcrmypdfPluginManager):
            return "plugins", tuple(obj._plugins)
        if isinstance(obj, pikepdf.Pdf):
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
        kind, value = reference
        return _plugin_manager(value) if kind == "plugins" else None


_managers: dict[tuple[str, ...], OcrmypdfPluginManager] = {}


def _plugin_manager(plugins: tuple[str, ...]) -> OcrmypdfPluginManager:
    """Returns the plugin manager of these plugins, which is created once per process."""
    if plugins not in _managers:
        _managers[plugins] = setup_plugin_infrastructure(plugins)
    return _managers[plugins]
