"""The Python client of OCR Tasks: `Client`, and `AsyncClient` for asyncio.

Requires only httpx and httpx-sse, and no other part of this project. See docs/how-to/client.md.
"""

from __future__ import annotations

from ocr_tasks.client.async_client import AsyncClient
from ocr_tasks.client.models import (
    Artifact,
    Event,
    FailedPage,
    Input,
    Job,
    JobFailure,
    Progress,
)
from ocr_tasks.client.problems import ApiError, TransferError
from ocr_tasks.client.sync_client import Client
from ocr_tasks.client.uploads import File, Option

__all__ = [
    "ApiError",
    "Artifact",
    "AsyncClient",
    "Client",
    "Event",
    "FailedPage",
    "File",
    "Input",
    "Job",
    "JobFailure",
    "Option",
    "Progress",
    "TransferError",
]
