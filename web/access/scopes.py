"""Which scope of a token each route needs. There is no other place where this is decided.

A route that is not listed is for `admin` alone; a test sees to it that all are listed.
"""

from __future__ import annotations

from collections.abc import Mapping

from ocr_tasks.model import Scope

#: One of these scopes is enough; `admin` always is.
Scopes = frozenset[Scope]

#: No token is needed: it tells nothing of anybody's documents.
PUBLIC: Scopes = frozenset()

_ADMIN: Scopes = frozenset({Scope.ADMIN})
_READ: Scopes = frozenset({Scope.READ})
_SUBMIT: Scopes = frozenset({Scope.SUBMIT})
_SWARM: Scopes = frozenset({Scope.SWARM})
_OCRD: Scopes = frozenset({Scope.OCRD})

#: Any token will do.
ANY: Scopes = frozenset(Scope)

#: By Flask's name of the route: the blueprint and the function.
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
    # A lease is the right to answer for a page: docr/smd's clients send no token with a transcript.
    "docr.check_out": _SWARM,
    "docr.check_in": PUBLIC,
    "swarm.summary": _SWARM,
    "swarm.devices_seen": _SWARM,
    "swarm.forget_device": _ADMIN,
    "swarm.lease": _SWARM,
    "swarm.image": _SWARM,
    "swarm.renew": _SWARM,
    "swarm.release": _SWARM,
    "swarm.fail": _SWARM,
    "swarm.answer": _SWARM,
    **{
        f"ocrd_{route}": _OCRD
        for route in (
            *("discovery.home", "discovery.show", "discovery.processors", "discovery.processor"),
            *("processing.run", "processing.show", "processing.cancel", "processing.log"),
            *("workflows.create", "workflows.replace", "workflows.show", "workflows.run"),
            *("workflows.job", "workflows.job_state", "workflows.cancel"),
            *("workspaces.index", "workspaces.create", "workspaces.import_external"),
            *("workspaces.show", "workspaces.replace", "workspaces.delete"),
            "processing.results",
            # The addresses of version 0.0.1.
            *("processing.older_processor", "processing.older_run", "processing.older_show"),
            *("processing.older_log", "workflows.older_run", "workflows.older_job"),
        )
    },
    # Nextcloud registers a server whatever its answers to these are worth, but for a refusal.
    "nextcloud.heartbeat": PUBLIC,
    "nextcloud.initialise": _SUBMIT,
    "nextcloud.enable": _SUBMIT,
    "nextcloud.process": _SUBMIT,
    "nextcloud.installed_languages": ANY,
    "demo.create": _SUBMIT,
    "demo.progress": _READ,
    "demo.results": _READ,
    "demo.download": _READ,
    "azure.analyze": _SUBMIT,
    "azure.result": _READ,
    "azure.result_pdf": _READ,
    "azure.delete": _SUBMIT,
    "azure.models": ANY,
    "azure.model": ANY,
    "azure.info": ANY,
    "azure.unknown": PUBLIC,
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


def words(wanted: Scopes) -> str:
    """What a route needs, for a person."""
    if wanted is PUBLIC:
        return "no token"
    return "any token" if wanted is ANY else ", ".join(sorted(wanted))


def needed(endpoint: str) -> Scopes:
    """The scopes of which a route needs one."""
    return SCOPES.get(endpoint, _ADMIN)
