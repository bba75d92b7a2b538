"""/page: docr/smd's REST as its clients use it (https://github.com/mjordan/docr-smd).

Its client cannot ask for more time, sends no token with a transcript, and does not look at the
answer. So its leases are long, and the address that it is told to answer to has the lease in it.
"""

from __future__ import annotations

from urllib.parse import quote, unquote, urlencode, urlsplit

from flask import Response, request, send_file
from flask_openapi3 import APIBlueprint, Tag

from ocr_tasks import errors, settings
from ocr_tasks.model import Scope
from ocr_tasks.swarm import devices, queue
from ocr_tasks.swarm.model import Abilities, Accepted, id_of_key
from web.access import authentication
from web.swarm import page_leases

blueprint = APIBlueprint(
    "docr", __name__, abp_tags=[Tag(name="docr/smd", description="Page images for its clients")]
)

#: What docr/smd's client sends; pages of jobs need more.
_ABILITIES = Abilities(formats=frozenset({"text"}))


@blueprint.errorhandler(errors.NotAuthenticated)
@blueprint.errorhandler(errors.ScopeMissing)
def _forbidden(error: errors.OcrTasksError) -> Response:
    return Response(status=403)


# Flask answers HEAD by GET; a look must not take a page.
@blueprint.get("/page", provide_automatic_options=True)
def check_out() -> Response:
    """Take a page to read it.

    204: none waits. 303: none waits here, but perhaps at another server.
    """
    if request.method == "HEAD":
        raise errors.MethodNotAllowed()
    device = devices.name(authentication.caller().who, "docr")
    devices.check(device)
    found = page_leases.page_for(device, _ABILITIES, settings.get().swarm_docr_seconds)
    if found is None:
        return _nothing()
    lease, image = found
    response = send_file(image, lease.page.media_type, conditional=False, etag=False)
    # The client cuts off the first 17 characters, so it must be exactly this.
    response.headers["Content-Disposition"] = f'inline; filename="{quote(lease.page.key)}"'
    response.headers["X-docr-Server-URL"] = f"{request.base_url}?{urlencode({'lease': lease.id})}"
    response.headers["Cache-Control"] = "no-store"
    return response


@blueprint.put("/page")
@blueprint.post("/page")
def check_in() -> Response:
    """Bring the transcript of a page: the body as it is.

    The page is that of `lease` in the address, which was told with the page; else the one that
    Content-Disposition names, and then a token is needed where the server asks for tokens.
    """
    try:
        page_leases.take(request, _accepted, "text")
    except errors.OcrTasksError as error:
        page_leases.refused(request, error)
        raise
    return Response(status=200)


def _accepted() -> Accepted:
    lease = request.args.get("lease")
    if lease is not None:
        return queue.accept(lease)
    authentication.demand(frozenset({Scope.SWARM}))
    return queue.accept_for(id_of_key(_key()))


def _key() -> str:
    """The name of the page, as it comes: bare, or as `inline; filename="…"`."""
    header = request.headers.get("Content-Disposition", "")
    name = header.partition('"')[2] if '"' in header else header
    if not name.strip('" '):
        raise errors.LeaseUnknown("Content-Disposition does not name a page")
    return unquote(name.strip('" '))


def _nothing() -> Response:
    visited = request.args.get("via", "").split(",")[: page_leases.MOST_VISITED]
    other = page_leases.another_server(request.host_url, visited)
    if other is None:
        response = Response(status=204)
        response.headers["Retry-After"] = "30"
        return response
    peer, marks = other
    # docr/smd's own servers are named with their path.
    address = peer if urlsplit(peer).path else f"{peer}/page"
    response = Response(status=303)
    response.headers["Location"] = f"{address}?{urlencode({'via': ','.join(marks)})}"
    return response
