"""Stub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ocr_tasks.ocrd.model import Workspace


def receive(
    upload_folder: Path, archive: Path, owner: str, workspace_id: str | None = None
) -> Workspace:
    raise NotImplementedError


def fetch(
    mets_url: str, owner: str, groups: Sequence[str] | None, basename: str = "mets.xml"
) -> Workspace:
    raise NotImplementedError


def listed(owner: str | None) -> list[Workspace]:
    raise NotImplementedError


def read(workspace_id: str, owner: str | None) -> Workspace:
    raise NotImplementedError


def find(path_to_mets: str, owner: str | None) -> Workspace:
    raise NotImplementedError


def delete(workspace_id: str, owner: str | None) -> Workspace:
    raise NotImplementedError


def pack(workspace: Workspace) -> Iterator[bytes]:
    raise NotImplementedError
