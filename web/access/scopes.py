"""Which scope of a token each route needs. There is no other place where this is decided.

A route that is not listed is for `admin` alone; a test sees to it that all are listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from ocr_tasks.model import Scope
from web import extensions

#: One of these scopes is enough; `admin` always is.
Scopes = frozenset[Scope]

#: No token is needed: it tells nothing of anybody's documents.
PUBLIC: Scopes = frozenset()

_ADMIN: Scopes = frozenset({Scope.ADMIN})
_READ: Scopes = frozenset({Scope.READ})
_SUBMIT: Scopes = frozenset({Scope.SUBMIT})

#: Any token will do.
ANY: Scopes = frozenset(Scope)

#: Of the core, by Flask's name of the route: the blueprint and the function.
SCOPES: Mapping[str, Scopes] = {
    "jobs.create": _SUBMIT,
    "jobs.cancel": _SUBMIT,
    "jobs.retry": _SUBMIT,
    "jobs.call_back": _SUBMIT,
    "jobs.delete": _SUBMIT,
    "resumable.create": _SUBMIT,
    "resumable.append": _SUBMIT,
    "resumable.show": _SUBMIT,
    "resumable.delete": _SUBMIT,
    "jobs.index": _READ,
    "jobs.show": _READ,
    "jobs.follow": _READ,
    "jobs.log": _READ,
    "jobs.pages": _READ,
    "jobs.page_text": _READ,
    "jobs.page_hocr": _READ,
    "jobs.page_image": _READ,
    "jobs.artifact": _READ,
    "archive.download": _READ,
    # Totals over everybody's jobs. Not for `admin` alone: the token of a monitoring system should
    # not be able to delete documents.
    "health.metrics_page": _READ,
    "health.live": PUBLIC,
    "health.ready": PUBLIC,
    "session.show": ANY,
    "session.sign_in": PUBLIC,
    "session.sign_out": PUBLIC,
    "site.options_schema": ANY,
    "site.installed_languages": ANY,
    # The pages and the description of the API, which are the same everywhere.
    "site.page": PUBLIC,
    "site.swarm": PUBLIC,
    "site.docs": PUBLIC,
    "site.openapi": PUBLIC,
    "static": PUBLIC,
    "openapi.doc_url": PUBLIC,
    "openapi.openapi": PUBLIC,
    "openapi.static": PUBLIC,
    "swagger.swagger": PUBLIC,
    "swagger.oauth2-redirect": PUBLIC,
    "swagger.static": PUBLIC,
}


@cache
def table() -> Mapping[str, Scopes]:
    """The scopes of all routes, those of extensions among them."""
    return {**SCOPES, **{k: v for one in extensions.installed() for k, v in one.scopes.items()}}


def words(wanted: Scopes) -> str:
    """What a route needs, for a person."""
    if wanted == PUBLIC:
        return "no token"
    return "any token" if wanted == ANY else ", ".join(sorted(wanted))


def needed(endpoint: str) -> Scopes:
    """The scopes of which a route needs one."""
    return table().get(endpoint, _ADMIN)
