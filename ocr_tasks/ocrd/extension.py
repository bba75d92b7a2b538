"""The extension for OCR-D; see `ocr_tasks.extensions`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ocr_tasks import extensions
from ocr_tasks.extensions import Record, SeparateWorker, WorkerRole
from ocr_tasks.ocrd import errors as ocrd_errors

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from ocr_tasks.model import Outcome
    from ocr_tasks.settings import Base


class OcrdExtension(extensions.Extension):
    """OCR-D's processors, workflows and workspaces."""

    commands: ClassVar[Mapping[str, tuple[str, str]]] = {
        "ocrd": ("run OCR-D processors and workflows on a server", "ocr_tasks.ocrd.commands.fill")
    }
    task_modules = ("ocr_tasks.ocrd.tasks",)
    check_modules = ("ocr_tasks.ocrd.zip.inspect",)
    lua = Path(__file__).parent / "lua"
    jobs_hint = "This is a job of an OCR-D processor, not of a document"

    worker_options: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "--processors": (
            "OCR_PROCESSORS",
            "NAMES",
            "comma-separated OCR-D processors to run instead of documents (default: "
            "OCR_PROCESSORS)",
        )
    }

    def __init__(self) -> None:
        #: The descriptions of the processors that this worker offers, by name.
        self._offered: dict[str, dict[str, Any]] = {}

    def settings(self) -> type[Base]:
        from ocr_tasks.ocrd.settings import OcrdSettings

        return OcrdSettings

    def owns(self, record: Record) -> bool:
        return "processor" in record

    def queue_of(self, record: Record) -> str:
        return record["processor"]

    def publish(self, job_id: str, record: Record) -> None:
        from ocr_tasks.ocrd import queueing

        queueing.publish({job_id: record["processor"]})

    def publish_ready(self) -> None:
        from ocr_tasks.ocrd import queueing

        queueing.publish_ready()

    def cancel(self, job_id: str) -> bool:
        from ocr_tasks.ocrd import processing

        with suppress(ocrd_errors.ProcessingNotFound):
            processing.cancel(job_id)
            return True
        return False

    def notification(self, job_id: str, event: str) -> tuple[str, dict[str, Any]] | None:
        from ocr_tasks.ocrd import messages, processing, workflows

        with suppress(ocrd_errors.ProcessingNotFound):
            job = processing.read(job_id)
            return job.run.callback_url, messages.of_job(job)
        with suppress(ocrd_errors.ProcessingNotFound):
            workflow = workflows.read_job(job_id)
            return workflow.callback_url, messages.of_workflow(workflow, event)
        return None

    def check_upload(self, kind: str, order: dict[str, Any]) -> dict[str, Any] | None:
        if kind != "workspace":
            return None
        from ocr_tasks.ocrd.zip import inspect

        return inspect.check(inspect.BagOrder(**order))

    def deliver(self, job_id: str, outcome: Outcome) -> Outcome:
        from ocr_tasks.ocrd import results

        return results.deliver(job_id, outcome)

    def worker_role(self, documents: bool) -> WorkerRole | None:
        from ocr_tasks.ocrd import work

        role, self._offered = work.role(documents)
        return role

    def separate_worker(self) -> SeparateWorker | None:
        from ocr_tasks.ocrd import settings as ocrd_settings

        config = ocrd_settings.get()
        if config.processors_share_worker or not config.processors:
            return None
        names = ",".join(config.processors)
        return SeparateWorker("processors", ("--processors", names), ("--processors", ""))

    def announce(self) -> None:
        from ocr_tasks.ocrd import tools

        tools.announce(self._offered)

    def shared_folders(self) -> list[Path]:
        from ocr_tasks.ocrd import workspaces

        return [workspaces.all_workspaces()]  # documents can be created from a workspace's images

    def metrics(self, counters: Mapping[str, str]) -> Iterable[Metric]:
        from ocr_tasks.ocrd import metrics

        return metrics.collect(counters)


extension = OcrdExtension()
