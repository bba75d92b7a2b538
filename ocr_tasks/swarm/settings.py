"""The settings of the swarm."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from ocr_tasks import settings
from ocr_tasks.setting_types import HOST, CommaList, matches
from ocr_tasks.settings import MIB

Peer = Annotated[
    str,
    matches(rf"https?://{HOST}(:[0-9]+)?(/[!-~]*)?", "is not a URL, e.g. https://scans.example"),
    AfterValidator(lambda url: url.rstrip("/")),
]


class SwarmSettings(settings.Base):
    """How pages are leased to devices, and how devices are verified."""

    swarm_lease_seconds: int = Field(
        60,
        ge=5,
        le=3600,
        description="Seconds for which a device leases a page, unless it renews the lease.",
    )
    swarm_docr_seconds: int = Field(
        900,
        ge=5,
        le=86400,
        description="Seconds for which a client of docr/smd leases a page; these clients cannot "
        "renew a lease.",
    )
    swarm_docr_overdue_seconds: int = Field(
        180,
        ge=5,
        le=86400,
        description="Seconds after which a page that a client of docr/smd has is also leased "
        "to another device, if no other page is waiting.",
    )
    swarm_leases_max: int = Field(
        64, ge=1, le=10000, description="Maximum number of leased pages per device."
    )
    swarm_failures_max: int = Field(
        3,
        ge=1,
        le=100,
        description="Number of failures or expired leases after which a page is no longer given "
        "to devices.",
    )
    swarm_pages_out: int = Field(
        32,
        ge=0,
        le=1000,
        description="Maximum number of pages of a job that are leased to devices or waiting for "
        "one at the same time. 0: none, even if a job requests it.",
    )
    swarm_take_seconds: float = Field(
        30,
        ge=0,
        le=86400,
        description="Seconds that a page of a job waits for a device before a worker processes it.",
    )
    swarm_page_seconds: float = Field(
        300,
        ge=1,
        le=86400,
        description="Seconds after which a worker processes a page of a job that is still at a "
        "device.",
    )
    swarm_transcript_bytes: int = Field(
        4 * MIB, ge=1024, description="Maximum size in bytes of the transcript of a page."
    )
    swarm_check_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of pages, from 0 to 1, that are processed twice to verify the devices.",
    )
    swarm_peers: CommaList[Peer] = Field(
        (),
        description="Comma-separated URLs of other servers to which devices are sent when no page "
        "is waiting, e.g. `https://scans.example`.",
    )


def get() -> SwarmSettings:
    """Returns the settings; raises `errors.SettingsError` for invalid ones."""
    return settings.of(SwarmSettings)
