"""/v1/swarm: pages for devices that read them, and what they send back."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from urllib.parse import urlsplit

from flask import Response, request, send_file
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel, Field

from ocr_tasks import errors, settings
from ocr_tasks.swarm import devices, queue, transcripts
from ocr_tasks.swarm.model import Abilities, Lease
from web.access import authentication
from web.http.schemas import ProblemBody, stamp
from web.swarm import page_leases

blueprint = APIBlueprint(
    "swarm",
    __name__,
    url_prefix="/v1/swarm",
    abp_tags=[Tag(name="Swarm", description="Pages that devices read for us")],
    abp_responses={"default": ProblemBody},
)

#: Polls a second of all idle devices together, and the seconds between two of one.
_POLLS_SECOND, _SOONEST, _LATEST = 50, 2, 60


class LeaseRequest(BaseModel):
    """What a device asks for, and what it can do."""

    device: str = Field("", max_length=100, description="What the device calls itself.")
    languages: list[str] | None = Field(
        None, max_length=200, description="Languages that it can read; all, if left out."
    )
    formats: list[Literal["text", "hocr", "alto"]] = Field(
        ["hocr"],
        description="Formats that it can answer in. A page says what is the least: text, or hocr, "
        "which ALTO is as good as.",
    )
    images: list[str] | None = Field(
        None, max_length=50, description="Media types of images that it can open; all, if left out."
    )
    count: int = Field(1, ge=1, le=64, description="Pages that it wants at most.")
    via: list[str] = Field(
        [], max_length=100, description="`via` of the answer that sent it here from another server."
    )


class FailureRequest(BaseModel):
    """Why a page could not be read."""

    reason: str = Field("", max_length=300)


class LeaseBody(BaseModel):
    """A page that the device has now."""

    lease: str = Field(description="A secret of the device and this server.")
    name: str
    format: str = Field(description="text or hocr: what the transcript must be at least.")
    languages: list[str]
    media_type: str
    width: int = Field(description="Pixels.")
    height: int
    dpi: float
    seconds: int = Field(description="For which the page is the device's, unless it renews.")
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
            # The documents of jobs are nobody's business.
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
    """The pages that a device gets; without any, when or where to ask again."""

    pages: list[LeaseBody]
    retry_after: int = Field(description="Seconds after which to ask again.")
    peer: str | None = Field(description="Another server that may have pages; send it `via`.")
    via: list[str]


class RenewBody(BaseModel):
    """For how long the page is the device's now."""

    seconds: int


class SummaryBody(BaseModel):
    """How many pages there are in each state, and devices that were seen in the last minute."""

    waiting: int
    leased: int
    done: int = Field(description="Of collections, until they are purged.")
    aside: int = Field(description="Of collections, that failed too often.")
    transcripts: int = Field(description="That ever came.")
    devices: int


class DeviceBody(BaseModel):
    """What a device has done; numbers are pages."""

    name: str
    first_seen: datetime | None
    last_seen: datetime | None
    trusted: bool
    open: int
    leased: int
    done: int
    failed: int
    expired: int
    late: int
    checked: int = Field(description="That were read a second time.")
    disagreed: int = Field(description="Of those, with another result.")


class DeviceListBody(BaseModel):
    """The devices that were seen last."""

    devices: list[DeviceBody]


class LeasePath(BaseModel):
    lease: str = Field(description="As it came with the page.")


class DevicePath(BaseModel):
    device: str = Field(description="Name, as the list of devices has it.")


@blueprint.get("", responses={200: SummaryBody})
def summary() -> Response:
    """How many pages wait, and who reads them."""
    return _json(SummaryBody(**queue.counts(), devices=devices.present()))


@blueprint.get("/devices", responses={200: DeviceListBody})
def devices_seen() -> Response:
    """List the devices that were seen last, and what each has done; others' for admin alone."""
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
        if caller.sees is None or row.name.startswith(f"{caller.who}/")
    ]
    return _json(DeviceListBody(devices=rows))


_COUNTS = ("open", "leased", "done", "failed", "expired", "late", "checked", "disagreed")


@blueprint.delete("/devices/<path:device>", responses={204: None})
def forget_device(path: DevicePath) -> Response:
    """Forget a device, so that one that is not believed any more gets pages again."""
    if not devices.forget(path.device):
        raise errors.NotFound(f"no device {path.device[:100]!r} has been seen")
    return Response(status=204)


@blueprint.post("/leases", responses={200: LeasesBody})
def lease(body: LeaseRequest) -> Response:
    """Take pages to read them."""
    device = devices.name(authentication.caller().who, body.device)
    devices.check(device)
    can = Abilities(
        None if body.languages is None else frozenset(body.languages),
        frozenset(body.formats),
        None if body.images is None else frozenset(body.images),
    )
    pages: list[LeaseBody] = []
    while len(pages) < body.count:
        try:
            found = page_leases.page_for(device, can, settings.get().swarm_lease_seconds)
        except errors.TooManyLeases:
            if not pages:
                raise
            break
        if found is None:
            break
        pages.append(LeaseBody.of(found[0]))
    peer: str | None = None
    via: list[str] = []
    if not pages:
        other = page_leases.another_server(request.host_url, body.via)
        if other and not urlsplit(other[0]).path:  # one of ours
            peer, via = other
    wait = min(_LATEST, max(_SOONEST, devices.present() // _POLLS_SECOND))
    return _json(LeasesBody(pages=pages, retry_after=wait, peer=peer, via=via))


@blueprint.get("/leases/<lease>/image")
def image(path: LeasePath) -> Response:
    """The image of a page."""
    page = queue.find(path.lease)
    file = transcripts.image_file(page)
    if not file.is_file():
        queue.set_aside(path.lease, "its image is gone")
        raise errors.PageWithdrawn("The image is gone")
    response = send_file(file, page.media_type, conditional=False, etag=False)
    response.headers["Cache-Control"] = "no-store"
    return response


@blueprint.post("/leases/<lease>/renew", responses={200: RenewBody})
def renew(path: LeasePath) -> Response:
    """Ask for more time."""
    seconds = settings.get().swarm_lease_seconds
    queue.renew(path.lease, seconds)
    return _json(RenewBody(seconds=seconds))


@blueprint.post("/leases/<lease>/release", responses={204: None})
def release(path: LeasePath) -> Response:
    """Give a page back, unread."""
    queue.release(path.lease)
    return Response(status=204)


@blueprint.post("/leases/<lease>/failure", responses={204: None})
def fail(path: LeasePath, body: FailureRequest) -> Response:
    """Give a page back that the device cannot read."""
    queue.fail(path.lease, transcripts.clean(body.reason))
    return Response(status=204)


@blueprint.put("/leases/<lease>/transcript", responses={204: None})
def answer(path: LeasePath) -> Response:
    """Bring what was read, by its Content-Type.

    text/plain, hOCR as text/vnd.hocr+html, or ALTO (in pixels) as application/alto+xml.
    """
    try:
        page_leases.take(
            request,
            lambda: queue.accept(path.lease),
            transcripts.FORMATS.get(request.mimetype, "text"),
        )
    except errors.OcrTasksError as error:
        page_leases.refused(request, error)
        raise
    return Response(status=204)


def _json(body: BaseModel) -> Response:
    response = Response(body.model_dump_json(), content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
