"""/page: the REST API of docr/smd (https://github.com/mjordan/docr-smd), for its clients.

These clients cannot renew leases, send no token with a transcript, and ignore the response. Leases
are therefore long, overdue pages are leased again if no other is waiting, and the URL for the
transcript contains the lease id.
"""

from __future__ import annotations

import hashlib
from urllib.parse import quote, unquote, urlencode

from flask import Response, request, send_file
from flask_openapi3 import APIBlueprint, Tag

from ocr_tasks import errors
from ocr_tasks.model import Scope
from ocr_tasks.swarm import devices, queue
from ocr_tasks.swarm import errors as swarm_errors
from ocr_tasks.swarm import settings as swarm_settings
from ocr_tasks.swarm.model import Abilities, Accepted, id_of_key
from web.access import authentication, request_origin
from web.swarm import page_leases

blueprint = APIBlueprint(
    "docr", __name__, abp_tags=[Tag(name="docr/smd", description="Pages for docr/smd's clients")]
)

#: docr/smd's clients send plain text, which is not sufficient for pages of jobs.
_ABILITIES = Abilities(formats=frozenset({"text"}))


@blueprint.errorhandler(errors.NotAuthenticated)
@blueprint.errorhandler(errors.ScopeMissing)
def _forbidden(error: errors.OcrTasksError) -> Response:
    return Response(status=403)


# Flask handles HEAD like GET, but HEAD must not lease a page.
@blueprint.get("/page", provide_automatic_options=True)
def check_out() -> Response:
    """Lease a page for OCR.

    204: no page is waiting. 303: no page is waiting here, but another server may have one.
    """
    if request.method == "HEAD":
        raise errors.MethodNotAllowed()
    device = _device()
    devices.check(device)
    config = swarm_settings.get()
    seconds, overdue_seconds = config.swarm_docr_seconds, config.swarm_docr_overdue_seconds
    found = page_leases.lease_page(device, _ABILITIES, seconds, overdue_seconds)
    if found is None:
        return _nothing(device)
    lease, image = found
    response = send_file(image, lease.page.media_type, conditional=False, etag=False)
    # The client removes the first 17 characters, so they must be exactly these.
    response.headers["Content-Disposition"] = f'inline; filename="{quote(lease.page.key)}"'
    response.headers["X-docr-Server-URL"] = f"{request.base_url}?{urlencode({'lease': lease.id})}"
    response.headers["Cache-Control"] = "no-store"
    return response


@blueprint.put("/page")
@blueprint.post("/page")
def check_in() -> Response:
    """Upload the transcript of a page as the body.

    The page is identified by `lease` in the URL, or by Content-Disposition. Without `lease`, the
    client must have leased the page, and a token is required if the server requires tokens.
    """
    try:
        page_leases.receive_transcript(request, _accepted, "text")
    except errors.OcrTasksError as error:
        page_leases.log_rejection(request, error)
        raise
    return Response(status=200)


def _device() -> str:
    """Returns the name of the client's device: its IP address and a hash of its user agent.

    docr/smd's clients have no name, and may share a token.
    """
    agent = hashlib.sha256(request.user_agent.string.encode()).hexdigest()[:6]
    own = f"docr-{request_origin.client_address(request)}-{agent}"
    return devices.name(authentication.caller().client_key, own)


def _accepted() -> Accepted:
    lease = request.args.get("lease")
    if lease is not None:
        return queue.accept(lease)
    caller = authentication.require(frozenset({Scope.SWARM}))
    return queue.accept_for(id_of_key(_key()), caller.client_key)


def _key() -> str:
    """Returns the name of the page, sent as it is or as `inline; filename="…"`."""
    header = request.headers.get("Content-Disposition", "")
    name = header.partition('"')[2] if '"' in header else header
    if not name.strip('" '):
        raise swarm_errors.LeaseUnknown("Content-Disposition contains no page name")
    return unquote(name.strip('" '))


def _nothing(device: str) -> Response:
    """Redirects a device to another server, or tells it that no page is waiting.

    Other servers, e.g. docr/smd's own, may drop the marks when they redirect a device back to this
    server. A device that returns immediately without marks is therefore not redirected again.
    """
    visited = request.args.get("via", "").split(",")[: page_leases.MAX_VISITED]
    other = page_leases.another_server(request.host_url, visited, with_docr=True)
    if other is None or not (any(visited) or devices.note_referral(device)):
        response = Response(status=204)
        response.headers["Retry-After"] = "30"
        return response
    peer, marks = other
    address = peer if page_leases.is_docr(peer) else f"{peer}/page"
    response = Response(status=303)
    response.headers["Location"] = f"{address}?{urlencode({'via': ','.join(marks)})}"
    return response
