"""The swarm as an extension of the core; see `ocr_tasks.extensions`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ocr_tasks import extensions
from ocr_tasks.extensions import RemotePages
from ocr_tasks.swarm import errors as errors  # so that `ocr_tasks.errors.by_code` finds them

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from ocr_tasks.options import JobOptions
    from ocr_tasks.settings import Base


class SwarmExtension(extensions.Extension):
    """Devices that process page images."""

    commands: ClassVar[Mapping[str, tuple[str, str]]] = {
        "swarm": ("distribute page images to devices for OCR", "ocr_tasks.swarm.commands.fill")
    }
    lua = Path(__file__).parent / "lua"

    def settings(self) -> type[Base]:
        from ocr_tasks.swarm.settings import SwarmSettings

        return SwarmSettings

    def check_options(self, options: JobOptions) -> None:
        from ocr_tasks.swarm import readers

        readers.check_engine(options.engine)

    def remote_pages(self, engine: str) -> RemotePages | None:
        from ocr_tasks.swarm import readers

        most = readers.pages_out(engine)
        if not most:
            return None
        return RemotePages(most, first=engine == "swarm", plugin="ocr_tasks.swarm.plugin")

    def metrics(self, counters: Mapping[str, str]) -> Iterable[Metric]:
        from ocr_tasks.swarm import metrics

        return metrics.collect()


extension = SwarmExtension()
