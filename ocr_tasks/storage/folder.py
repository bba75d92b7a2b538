"""Stores jobs in the data folder, which web servers and workers share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from ocr_tasks.model import Artifact
from ocr_tasks.storage import atomic, layout


class AtWork:
    """See `store.AtWork`. Nothing has to be copied: the run works in the permanent folder."""

    def page_stored(self, number: int) -> None:
        pass

    def store_now(self, number: int) -> None:
        pass

    def settle(self) -> None:
        pass


class FolderStore:
    """See `store.Store`."""

    in_folder = True

    def adopt(self, upload: Path, job_id: str) -> None:
        layout.adopt(upload, job_id)

    def read(self, job_id: str, name: str) -> bytes | None:
        try:
            return self._path(job_id, name).read_bytes()
        except FileNotFoundError:
            return None

    def summaries(self, job_id: str, total: int) -> Mapping[int, Any]:
        contents = {
            number: self.read(job_id, f"pages/{number:06d}/summary.json")
            for number in range(1, total + 1)
        }
        return {
            number: json.loads(content)
            for number, content in contents.items()
            if content is not None
        }

    def write(self, job_id: str, name: str, content: bytes) -> None:
        with layout.storage_errors():
            atomic.write(self._path(job_id, name), content)

    def has(self, job_id: str, name: str) -> bool:
        return self._path(job_id, name).exists()

    def open(self, job_id: str, name: str) -> Path | None:
        path = self._path(job_id, name)
        return path if path.exists() else None

    def open_artifact(self, job_id: str, run: str, artifact: Artifact) -> Path:
        path = layout.job(job_id).artifact(run, artifact.name)
        layout.check_artifact(path, artifact)
        return path

    def size(self, job_id: str, name: str) -> int:
        return layout.size(self._path(job_id, name))

    def remove(self, job_id: str, *names: str) -> None:
        for name in names:
            layout.delete_tree(self._path(job_id, name))

    def delete(self, job_id: str) -> None:
        layout.delete(job_id)

    def at_work(self, job_id: str) -> AbstractContextManager[AtWork]:
        return nullcontext(AtWork())

    def jobs(self) -> Iterator[str]:
        return (path.name for path in layout.folders())

    def age(self, job_id: str) -> float:
        return layout.age(layout.job(job_id).path)

    def check_space(self, incoming: int = 0) -> None:
        layout.check_space(incoming)

    def check_writable(self) -> None:
        layout.check_writable()

    @staticmethod
    def _path(job_id: str, name: str) -> Path:
        return layout.job(job_id).path / name
