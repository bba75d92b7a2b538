"""/v1/swarm: hands out pages to devices for OCR, and receives their transcripts."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from flask import Response, request, send_file
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel, Field

from ocr_tasks import errors
from ocr_tasks.swarm import devices, queue, transcripts
from ocr_tasks.swarm import errors as swarm_errors
from ocr_tasks.swarm import settings as swarm_settings
from ocr_tasks.swarm.model import Abilities, Lease
from web.access import authentication
from web.http.responses import json_response
from web.http.schemas import ProblemBody, stamp
from web.swarm import page_leases

blueprint = APIBlueprint(
    "swarm",
    __name__,
    url_prefix="/v1/swarm",
    abp_tags=[Tag(name="Swarm", description="OCR of pages by other devices")],
    abp_responses={"default": ProblemBody},
)

#: Polls per second of all idle devices together; minimum and maximum polling interval in seconds.
_POLLS_PER_SECOND, _MIN_INTERVAL, _MAX_INTERVAL = 50, 2, 60


class LeaseRequest(BaseModel):
    """A request for pages, with the capabilities of the device."""

    device: str = Field("", max_length=100, description="Name of the device.")
    languages: list[str] | None = Field(
        None, max_length=200, description="Languages that the device supports. Default: all."
    )
    formats: list[Literal["text", "hocr", "alto"]] = Field(
        ["hocr"],
        description="Transcript formats that the device supports. Each page requires at least "
        "`text`, or `hocr` (`alto` is equivalent).",
    )
    images: list[str] | None = Field(
        None, max_length=50, description="Image media types that it supports. Default: all."
    )
    count: int = Field(1, ge=1, le=64, description="Maximum number of pages.")
    via: list[str] = Field(
        [], max_length=100, description="`via` from the response of the server that referred it."
    )


class FailureRequest(BaseModel):
    """Why OCR of a page failed."""

    reason: str = Field("", max_length=300)


class LeaseBody(BaseModel):
    """A page that is leased to the device."""

    lease: str = Field(description="Id of the lease, a secret between device and server.")
    name: str
    format: str = Field(description="Required transcript format: `text`, or at least `hocr`.")
    languages: list[str]
    media_type: str
    width: int = Field(description="Pixels.")
    height: int
    dpi: float
    seconds: int = Field(description="Duration of the lease; it can be renewed.")
    image: str
    transcript: str
    renew: str
    release: str
    failure: str

    @classmethod
    def of(cls, lease: Lease) -> LeaseBody:
        page, here = lease.page, f"/v1/swarm/leases/{lease.id}"
        links = {name: f"{here}/{name}" for name in _LINKS}
        return cls(
            lease=lease.id,
            # Devices must not see names of documents.
            name=page.key if page.collection else f"page {page.number}",
            format=page.format,
            languages=list(page.languages),
            media_type=page.media_type,
            width=page.width,
            height=page.height,
            dpi=page.dpi,
            seconds=lease.seconds,
            **links,
        )


_LINKS = ("image", "transcript", "renew", "release", "failure")


class LeasesBody(BaseModel):
    """Leased pages; if there are none, when and where to try again."""

    pages: list[LeaseBody]
    retry_after: int = Field(description="Seconds until the next request.")
    peer: str | None = Field(description="Another server that may have pages. Send it `via`.")
    via: list[str]


class RenewBody(BaseModel):
    """The renewed lease."""

    seconds: int


class SummaryBody(BaseModel):
    """Number of pages in each state, and of devices that were seen in the last minute."""

    waiting: int
    leased: int
    done: int = Field(description="Pages of collections that are done and not purged.")
    aside: int = Field(description="Pages of collections that failed too often.")
    transcripts: int = Field(description="Transcripts received since the beginning.")
    checked: int = Field(description="Transcripts that were cross-checked.")
    unchecked: int = Field(
        description="Transcripts that were selected for a cross-check, which needs a second client."
    )
    devices: int


class DeviceBody(BaseModel):
    """A device and its numbers of pages."""

    name: str
    first_seen: datetime | None
    last_seen: datetime | None
    trusted: bool = Field(description="Whether its client (token or IP address) gets pages.")
    open: int
    leased: int
    done: int
    failed: int
    expired: int
    late: int
    checked: int = Field(description="Pages that were processed again for comparison.")
    disagreed: int = Field(description="Checked pages with a different result.")


class DeviceListBody(BaseModel):
    """The most recently seen devices."""

    devices: list[DeviceBody]


class LeasePath(BaseModel):
    lease: str = Field(description="Id of the lease.")


class DevicePath(BaseModel):
    device: str = Field(description="Name of the device, as in the list of devices.")


@blueprint.get("", responses={200: SummaryBody})
def summary() -> Response:
    """Get the number of pages in each state, and of active devices."""
    return json_response(SummaryBody(**queue.counts(), devices=devices.present()))


@blueprint.get("/devices", responses={200: DeviceListBody})
def devices_seen() -> Response:
    """List the most recently seen devices of the client; with `admin`, of all clients."""
    caller = authentication.caller()
    rows = [
        DeviceBody(
            name=row.name,
            first_seen=stamp(row.first),
            last_seen=stamp(row.last),
            trusted=row.trusted,
            **{name: getattr(row, name) for name in _COUNTS},
        )
        for row in devices.latest()
        if caller.sees is None or row.name.startswith(f"{caller.client_key}/")
    ]
    return json_response(DeviceListBody(devices=rows))


_COUNTS = ("open", "leased", "done", "failed", "expired", "late", "checked", "disagreed")


@blueprint.delete("/devices/<path:device>", responses={204: None})
def forget_device(path: DevicePath) -> Response:
    """Reset a device; if its client is no longer trusted, it gets pages again."""
    if not devices.forget(path.device):
        raise errors.NotFound(f"The device {path.device[:100]!r} is unknown")
    return Response(status=204)


@blueprint.post("/leases", responses={200: LeasesBody})
def lease(body: LeaseRequest) -> Response:
    """Lease pages for OCR."""
    device = devices.name(authentication.caller().client_key, body.device)
    devices.check(device)
    can = Abilities(
        None if body.languages is None else frozenset(body.languages),
        frozenset(body.formats),
        None if body.images is None else frozenset(body.images),
    )
    pages: list[LeaseBody] = []
    while len(pages) < body.count:
        try:
            found = page_leases.lease_page(device, can, swarm_settings.get().swarm_lease_seconds)
        except swarm_errors.TooManyLeases:
            if not pages:
                raise
            break
        if found is None:
            break
        pages.append(LeaseBody.of(found[0]))
    peer: str | None = None
    via: list[str] = []
    if not pages and (other := page_leases.another_server(request.host_url, body.via)):
        peer, via = other
    wait = min(_MAX_INTERVAL, max(_MIN_INTERVAL, devices.present() // _POLLS_PER_SECOND))
    return json_response(LeasesBody(pages=pages, retry_after=wait, peer=peer, via=via))


@blueprint.get("/leases/<lease>/image")
def image(path: LeasePath) -> Response:
    """Download the image of a leased page."""
    page = queue.find(path.lease)
    file = transcripts.image_file(page)
    if not file.is_file():
        queue.set_aside(path.lease, "its image is gone")
        raise swarm_errors.PageWithdrawn("The page image no longer exists")
    response = send_file(file, page.media_type, conditional=False, etag=False)
    response.headers["Cache-Control"] = "no-store"
    return response


@blueprint.post("/leases/<lease>/renew", responses={200: RenewBody})
def renew(path: LeasePath) -> Response:
    """Renew a lease."""
    seconds = swarm_settings.get().swarm_lease_seconds
    try:
        devices.check(queue.device_of(path.lease))
    except swarm_errors.DeviceDistrusted:
        queue.release(path.lease)
        raise
    queue.renew(path.lease, seconds)
    return json_response(RenewBody(seconds=seconds))


@blueprint.post("/leases/<lease>/release", responses={204: None})
def release(path: LeasePath) -> Response:
    """Release a page without a transcript."""
    queue.release(path.lease)
    return Response(status=204)


@blueprint.post("/leases/<lease>/failure", responses={204: None})
def fail(path: LeasePath, body: FailureRequest) -> Response:
    """Report that OCR of a page failed."""
    queue.fail(path.lease, transcripts.clean(body.reason))
    return Response(status=204)


def _format(lease: str) -> transcripts.Sent:
    """Returns the format of the transcript in the request; text if it has no Content-Type."""
    form = transcripts.FORMATS.get(request.mimetype or "text/plain")
    if form is None:
        queue.find(lease)  # an unknown lease is the more important error
        raise swarm_errors.TranscriptInvalid(
            f"A transcript is one of {', '.join(transcripts.FORMATS)}, not {request.mimetype[:100]}"
        )
    return form


@blueprint.put(
    "/leases/<lease>/transcript",
    responses={204: None},
    operation_id="swarm_answer_leases__lease__transcript_put",  # the id of earlier versions
)
def transcript(path: LeasePath) -> Response:
    """Upload the transcript of a page.

    Supported types are text/plain, hOCR as text/vnd.hocr+html, and ALTO (in pixels) as
    application/alto+xml.
    """
    try:
        page_leases.receive_transcript(
            request,
            lambda: queue.accept(path.lease),
            _format(path.lease),
        )
    except errors.OcrTasksError as error:
        page_leases.log_rejection(request, error)
        raise
    return Response(status=204)
