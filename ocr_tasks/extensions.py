"""Extensions: optional parts of the service, and the interface through which they extend the core.

The core calls the hooks of `Extension` and imports no extension. An extension is a package of
`ocr_tasks` whose module `extension` contains an instance of `Extension` called `extension`. To
remove an extension, delete its packages here and in `web`, the line with its name in `NAMES` here
and in `web.extensions`, and what `.importlinter`, `pyproject.toml`, `scripts/` and `bench/` say of
it. Its scopes, job options and texts of the web page are lists in the core, and may stay. Its
errors are in its module `errors`, which `extension` imports so that `errors.by_code` finds them.

Hooks run in the web server, in workers and in the processes that check uploads. They import modules
when they are called, because a process should load only the parts that it uses.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from ocr_tasks.model import Outcome
    from ocr_tasks.options import JobOptions
    from ocr_tasks.settings import Base

#: The names of the registered extensions.
NAMES = [
    "swarm",
    "ocrd",
]

#: The hash of a job in Redis, see `redis.keys`.
Record = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class WorkerRole:
    """What a worker does for an extension.

    `queues` are consumed in addition to those of documents, or instead of them if `documents` is
    false. `info` contains fields of `model.WorkerInfo`. The processes of a worker without documents
    keep the environment variables in `environment`, can access the paths in `writable` and
    `readable`, and can connect to the TCP ports in `ports`.
    """

    queues: tuple[str, ...]
    documents: bool = True
    info: Mapping[str, Any] = field(default_factory=dict)
    environment: frozenset[str] = frozenset()
    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    ports: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SeparateWorker:
    """A worker of the extension's own, which `ocr-tasks up` starts.

    `arguments` are those of its `ocr-tasks worker`, `for_documents` those of the other worker.
    """

    name: str
    arguments: tuple[str, ...]
    for_documents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RemotePages:
    """How pages of a job are processed outside the workers.

    At most `most` pages are handed out at the same time. With `first`, workers process only pages
    that no device takes. `plugin` is the module of the OCRmyPDF plugin that hands them out.
    """

    most: int
    first: bool
    plugin: str


class Extension:
    """The interface of an extension. Defaults add nothing.

    An extension with jobs of its own defines `owns`, `queue_of` and `publish`.
    """

    #: Commands of `ocr-tasks`: the help text, and the function that fills the command's parser.
    commands: ClassVar[Mapping[str, tuple[str, str]]] = {}

    #: Modules with Celery tasks, which workers import.
    task_modules: tuple[str, ...] = ()

    #: Modules that `check_upload` needs, imported once before uploads are checked.
    check_modules: tuple[str, ...] = ()

    #: The folder of its Lua scripts. A file in `include` is appended to the core's of that name.
    lua: Path | None = None

    #: Advice for clients that request a job of the extension as a document.
    jobs_hint = ""

    def settings(self) -> type[Base] | None:
        """Returns the settings of the extension, or None if it has none."""
        return None

    # Jobs of the extension, which have leases and results like jobs of documents

    def owns(self, record: Record) -> bool:
        """Returns whether a job belongs to the extension."""
        return False

    def queue_of(self, record: Record) -> str:
        """Returns the queue of a job of the extension."""
        raise NotImplementedError

    def publish(self, job_id: str, record: Record) -> None:
        """Sends the message of a job of the extension."""
        raise NotImplementedError

    def publish_ready(self) -> None:
        """Sends the messages of the extension's jobs that have become ready to run."""

    def cancel(self, job_id: str) -> bool:
        """Cancels a job. Returns False if it does not belong to the extension."""
        return False

    def notification(self, job_id: str, event: str) -> tuple[str, dict[str, Any]] | None:
        """Returns the URL and payload of a webhook, or None if the job is not the extension's."""
        return None

    # Documents

    def check_upload(self, kind: str, order: dict[str, Any]) -> dict[str, Any] | None:
        """Checks an upload in a sandboxed process. Returns None if the kind is not its own."""
        return None

    def check_options(self, options: JobOptions) -> None:
        """Raises errors.InvalidOptions if the service cannot run a job with these options."""

    def remote_pages(self, engine: str) -> RemotePages | None:
        """Returns how pages of a job with this `engine` option are handed out, or None."""
        return None

    def deliver(self, job_id: str, outcome: Outcome) -> Outcome:
        """Delivers a document's results before the job ends. May add warnings to the outcome."""
        return outcome

    # Workers

    #: Options of `ocr-tasks worker` that set a variable: its name, metavar and help text. A worker
    #: with a value for one of them takes no documents.
    worker_options: ClassVar[Mapping[str, tuple[str, str, str]]] = {}

    def worker_role(self, documents: bool) -> WorkerRole | None:
        """Returns what this worker does for the extension, or None.

        `documents` is false in a worker that was not started for documents.
        """
        return None

    def separate_worker(self) -> SeparateWorker | None:
        """Returns the worker that the extension needs for itself, or None if it needs none."""
        return None

    def announce(self) -> None:
        """Announces what this worker offers. Called every few seconds in its main process."""

    def shared_folders(self) -> list[Path]:
        """Returns folders to which all processes of a worker can write."""
        return []

    # Metrics

    def metrics(self, counters: Mapping[str, str]) -> Iterable[Metric]:
        """Returns the metrics of the extension. `counters` is the hash `redis.keys.STATS`."""
        return ()


@cache
def installed() -> tuple[Extension, ...]:
    """Returns the registered extensions."""
    modules = (importlib.import_module(f"ocr_tasks.{name}.extension") for name in NAMES)
    return tuple(module.extension for module in modules)


def check_settings() -> None:
    """Raises `errors.SettingsError` if a setting of the core or of an extension is invalid."""
    from ocr_tasks import settings

    for group in settings_groups():
        settings.of(group)


def settings_groups() -> list[type[Base]]:
    """Returns the settings of the core and of all extensions."""
    from ocr_tasks.settings import Settings

    return [Settings, *filter(None, (extension.settings() for extension in installed()))]


def owner_of(record: Record) -> Extension | None:
    """Returns the extension that a job belongs to, or None for a document."""
    return next((extension for extension in installed() if extension.owns(record)), None)


def publish_ready() -> None:
    """Sends the messages of all extensions' jobs that have become ready to run."""
    for extension in installed():
        extension.publish_ready()


def remote_pages(engine: str) -> RemotePages | None:
    """Returns how pages of a job with this `engine` option are handed out, or None."""
    offers = (extension.remote_pages(engine) for extension in installed())
    return next(filter(None, offers), None)
