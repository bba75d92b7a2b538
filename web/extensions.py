"""The optional parts of the HTTP side, and what each adds to it.

The core calls the hooks of `WebExtension` and knows no extension by name. An extension is a package
of `web` whose module `extension` has an instance of `WebExtension` called `extension`. To remove
one, delete its packages and its name in `NAMES`; `ocr_tasks.extensions` has the same for the parts
that are no HTTP.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from flask_openapi3 import APIBlueprint, OpenAPI

from ocr_tasks.model import Scope
from ocr_tasks.options import JobOptions
from ocr_tasks.uploads import receive

#: The registration.
NAMES = ("swarm", "ocrd", "dialects")


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A part of the service in /readyz that jobs of documents do not need.

    `check` raises errors.ServiceError if the part is missing, and `Starting` if it may still come.
    `advice` says what the administrator does then.
    """

    name: str
    check: Callable[[], object]
    advice: str


class Starting(Exception):
    """A part of the service is missing, as it may be in the first seconds.

    `yet` is what is said then, `lost` later.
    """

    def __init__(self, yet: str, lost: str) -> None:
        super().__init__(yet, lost)
        self.yet, self.lost = yet, lost


class DocumentSource:
    """Where a document comes from that is not uploaded with the request that creates its job."""

    def check(self, options: JobOptions) -> None:
        """Raises errors.InvalidOptions if the document cannot be processed with these options."""

    def attach(self, document: receive.Received) -> receive.Received:
        """Returns the document with a note of its source; raises an error if it does not fit."""
        return document


class WebExtension:
    """What an extension adds. Each attribute and hook adds nothing unless it is overridden."""

    #: The scopes of a token of which a route needs one, by Flask's endpoint.
    scopes: ClassVar[Mapping[str, frozenset[Scope]]] = {}

    #: Endpoints that change something although they are requested by GET.
    unsafe_gets: frozenset[str] = frozenset()

    #: Headers with a token, by blueprint; and those with `name:token` in base64.
    token_headers: ClassVar[Mapping[str, str]] = {}
    pair_headers: ClassVar[Mapping[str, str]] = {}

    #: Blueprints whose clients send the token as the password of `Authorization: Basic`.
    basic_auth: frozenset[str] = frozenset()

    #: Fields of the form of POST /v1/jobs, as OpenAPI describes them.
    form_fields: ClassVar[Mapping[str, dict[str, Any]]] = {}

    def blueprints(self) -> Sequence[APIBlueprint]:
        """Returns the routes."""
        return ()

    def install(self, app: OpenAPI) -> None:
        """Prepares the application for the routes."""

    def health_checks(self) -> Sequence[HealthCheck]:
        """Returns checks for /readyz."""
        return ()

    def document_source(
        self, incoming: receive.Incoming, form: dict[str, list[str]], owner: str | None
    ) -> DocumentSource | None:
        """Adds the files that a form of POST /v1/jobs names, and takes its fields out of it.

        Returns None if the form names none of the extension's.
        """
        return None


@cache
def installed() -> tuple[WebExtension, ...]:
    """Returns the registered extensions."""
    modules = (importlib.import_module(f"web.{name}.extension") for name in NAMES)
    return tuple(module.extension for module in modules)
