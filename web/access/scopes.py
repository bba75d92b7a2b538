"""The token scopes that each route requires: the core's, and those that extensions declare.

A route that is not listed requires `admin`. A test checks that all routes are listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from ocr_tasks.model import Scope
from web import extensions

#: One of these scopes is sufficient, and so is `admin`.
Scopes = frozenset[Scope]

#: No token is required, because the response contains no data of documents.
PUBLIC: Scopes = frozenset()

_ADMIN: Scopes = frozenset({Scope.ADMIN})
_READ: Scopes = frozenset({Scope.READ})
_SUBMIT: Scopes = frozenset({Scope.SUBMIT})

#: Any token is accepted.
ANY: Scopes = frozenset(Scope)

#: Required scopes of the core's routes, by Flask endpoint: blueprint and function.
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
    # Totals over all jobs. `read` is sufficient, because the token of a monitoring system should
    # not be able to delete documents.
    "health.metrics_page": _READ,
    "health.live": PUBLIC,
    "health.ready": PUBLIC,
    "session.show": ANY,
    "session.sign_in": PUBLIC,
    "session.sign_out": PUBLIC,
    "site.options_schema": ANY,
    "site.installed_languages": ANY,
    # Pages and API descriptions without user data.
    "site.page": PUBLIC,
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
    """Returns the required scopes of all routes, including those of extensions."""
    return {**SCOPES, **{k: v for one in extensions.installed() for k, v in one.scopes.items()}}


def describe(wanted: Scopes) -> str:
    """Returns a readable text for required scopes."""
    if wanted == PUBLIC:
        return "no token"
    return "any token" if wanted == ANY else ", ".join(sorted(wanted))


def required(endpoint: str) -> Scopes:
    """Returns the scopes that an endpoint requires; one of them is sufficient."""
    return table().get(endpoint, _ADMIN)
