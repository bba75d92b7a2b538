"""The extension for the swarm; see `web.extensions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from flask_openapi3 import APIBlueprint

from ocr_tasks.errors import OcrTasksError
from ocr_tasks.model import Scope
from ocr_tasks.swarm import errors as swarm_errors
from web.extensions import WebExtension

_SWARM = frozenset({Scope.SWARM})
_DEVICE_ROUTES = (
    "summary",
    "devices_seen",
    "lease",
    "image",
    "renew",
    "release",
    "fail",
    "transcript",
)


class SwarmExtension(WebExtension):
    """The endpoints /v1/swarm and /page (docr/smd), and the page /swarm."""

    scopes: ClassVar[Mapping[str, frozenset[Scope]]] = {
        "docr.check_out": _SWARM,
        # The lease id authorizes the upload: docr/smd's clients send no token with a transcript.
        "docr.check_in": frozenset(),
        "swarm_page.show": frozenset(),
        "swarm.forget_device": frozenset({Scope.ADMIN}),
        **{f"swarm.{route}": _SWARM for route in _DEVICE_ROUTES},
    }
    statuses: ClassVar[Mapping[type[OcrTasksError], int]] = {
        swarm_errors.TranscriptInvalid: 422,
        swarm_errors.TranscriptTooLarge: 413,
        swarm_errors.LeaseUnknown: 404,
        swarm_errors.LeaseLost: 409,
        swarm_errors.PageWithdrawn: 410,
        swarm_errors.DeviceDistrusted: 403,
        swarm_errors.TooManyLeases: 429,
    }
    unsafe_gets = frozenset({"docr.check_out"})
    token_headers: ClassVar[Mapping[str, str]] = {"docr": "X-Auth-Key"}
    links: ClassVar[Mapping[str, str]] = {"/swarm": "nav.swarm"}

    def blueprints(self) -> Sequence[APIBlueprint]:
        from web.swarm import api, docr, page

        return (api.blueprint, docr.blueprint, page.blueprint)


extension = SwarmExtension()
