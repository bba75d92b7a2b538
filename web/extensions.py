"""Optional parts of the web application, and their registration.

The core calls the hooks of `WebExtension` and does not depend on any extension. An extension is a
package in `web` whose module `extension` contains an instance of `WebExtension` named `extension`.
`ocr_tasks.extensions` has the parts that are not HTTP, and says how to remove an extension.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from flask_openapi3 import APIBlueprint, OpenAPI

from ocr_tasks.errors import OcrTasksError
from ocr_tasks.model import Scope
from ocr_tasks.options import JobOptions
from ocr_tasks.uploads import receive

#: Registered extensions.
NAMES = [
    "swarm",
    "ocrd",
    "dialects",
]


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """An additional part of the service in /readyz that OCR of documents does not need.

    `check` raises `errors.ServiceError` if the part is missing, or `Starting` if it may still be
    starting. `advice` tells the administrator what to do.
    """

    name: str
    check: Callable[[], object]
    advice: str


class Starting(Exception):
    """A part of the service is missing, which is normal in the first seconds.

    `yet` is the message during that time, `lost` the message afterwards.
    """

    def __init__(self, yet: str, lost: str) -> None:
        super().__init__(yet, lost)
        self.yet, self.lost = yet, lost


class DocumentSource:
    """The source of a document that is not uploaded with the request that creates its job.

    `str()` of it is part of what identifies a repeated request, so it must not change.
    """

    def check(self, options: JobOptions) -> None:
        """Raises `errors.InvalidOptions` if the source does not support these options."""

    def attach(self, document: receive.Received) -> receive.Received:
        """Returns the document with a reference to its source; raises an error on a mismatch."""
        return document


class WebExtension:
    """Base class of extensions. Attributes and hooks add nothing unless they are overridden."""

    #: Required scopes by Flask endpoint; one of them is sufficient.
    scopes: ClassVar[Mapping[str, frozenset[Scope]]] = {}

    #: HTTP status of each error of the extension that can be a response.
    statuses: ClassVar[Mapping[type[OcrTasksError], int]] = {}

    #: Flask endpoints whose GET changes data. An <img> on any page could send such a request.
    unsafe_gets: frozenset[str] = frozenset()

    #: Headers with a token, and headers with `base64(name:token)`, by blueprint.
    token_headers: ClassVar[Mapping[str, str]] = {}
    pair_headers: ClassVar[Mapping[str, str]] = {}

    #: Blueprints whose clients may send the token as the password of `Authorization: Basic`.
    basic_auth: frozenset[str] = frozenset()

    #: The form field of POST /v1/jobs that replaces files, '' if there is none.
    source_field: str = ""

    #: OpenAPI descriptions of additional form fields of POST /v1/jobs.
    form_fields: ClassVar[Mapping[str, dict[str, Any]]] = {}

    #: Links on the web page: the name of the text (`web.site.texts`), by path.
    links: ClassVar[Mapping[str, str]] = {}

    def blueprints(self) -> Sequence[APIBlueprint]:
        """Returns the blueprints of the extension."""
        return ()

    def install(self, app: OpenAPI) -> None:
        """Prepares the application, before the blueprints are registered."""

    def health_checks(self) -> Sequence[HealthCheck]:
        """Returns additional checks for /readyz."""
        return ()

    def document_source(
        self, incoming: receive.Upload, form: dict[str, list[str]], owner: str | None
    ) -> DocumentSource | None:
        """Adds files that a form of POST /v1/jobs refers to; removes the fields from the form.

        Returns None if the form does not contain the extension's fields.
        """
        return None


@cache
def installed() -> tuple[WebExtension, ...]:
    """Returns the registered extensions."""
    modules = (importlib.import_module(f"web.{name}.extension") for name in NAMES)
    return tuple(module.extension for module in modules)
