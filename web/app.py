"""The Flask application."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

from flask import Flask
from flask.json.provider import DefaultJSONProvider
from flask_openapi3 import Info, OpenAPI, SecurityScheme

from web import extensions
from web.access import authentication, request_origin, scopes, session
from web.api import archive, health, jobs, uploads
from web.http import access_log, headers, problems, slow_clients, streaming
from web.site import pages

DESCRIPTION = (
    "Upload PDFs or images, follow progress page by page, and download searchable PDF/A, text, "
    "hOCR, ALTO or JSON. Errors are `application/problem+json` with a stable `code`."
)

#: A token needs one of the scopes listed by the operation, or `admin`. If the operation lists no
#: scope, any token is accepted.
_SECURITY: dict[str, SecurityScheme | dict[str, Any]] = {
    "token": SecurityScheme(
        type="http",
        scheme="bearer",
        description="API token (`ocrt_…`), created with `ocr-tasks tokens create`.",
    ),
    "password": SecurityScheme(
        type="http",
        scheme="basic",
        description="Only for routes that list it: any user name, with the token as the password.",
    ),
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": authentication.COOKIE,
        "description": "Set by POST /v1/session. Requests that change data must be same-origin.",
    },
}

_PLACEHOLDER = re.compile(r"<(?:\w+:)?(\w+)>")


class _Json(DefaultJSONProvider):
    """A JSON provider that keeps the order of keys and rejects deep nesting with `ValueError`."""

    sort_keys = False

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        """Parses JSON; too many nested levels raise `ValueError` instead of `RecursionError`."""
        try:
            return super().loads(s, **kwargs)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def create_app() -> Flask:
    """Creates the application from the settings."""
    app = OpenAPI(
        "web",
        info=Info(title="OCR Tasks", version=version("ocr-tasks"), description=DESCRIPTION),
        doc_prefix="/docs/api",
        validation_error_callback=problems.validation_failed,
        security_schemes=_SECURITY,
        static_folder="site/static",
        template_folder="site/templates",
    )
    app.json = _Json(app)
    problems.install(app)
    access_log.install(app)
    headers.install(app)
    slow_clients.install(app)
    request_origin.install(app)
    authentication.install(app)
    streaming.install(app)
    uploads.install(app)
    blueprints = [jobs.blueprint, uploads.blueprint, archive.blueprint]
    for extension in extensions.installed():
        extension.install(app)
        blueprints += extension.blueprints()
    blueprints += [session.blueprint, pages.blueprint, health.blueprint]
    for blueprint in blueprints:
        app.register_api(blueprint)
    _complete(app)
    return app


def _complete(app: OpenAPI) -> None:
    """Adds the required scopes of each operation to the OpenAPI document."""
    basic_auth = request_origin.basic_auth()
    for rule in app.url_map.iter_rules():
        path = _PLACEHOLDER.sub(r"{\1}", rule.rule)
        for method in rule.methods or ():
            operation = app.api_doc["paths"].get(path, {}).get(method.lower())
            if operation is None:
                continue
            # flask-openapi3 replaces the line breaks of docstrings with <br/>.
            text = operation.get("description", "")
            operation["description"] = text.replace("<br/>", " ").strip()
            needed = scopes.required(rule.endpoint)
            names = [] if needed == scopes.ANY else sorted(map(str, needed))
            schemes = [] if needed == scopes.PUBLIC else _SECURITY
            operation["security"] = [
                {scheme: names}
                for scheme in schemes
                if scheme != "password" or rule.endpoint.partition(".")[0] in basic_auth
            ]
            operation["x-scope"] = scopes.describe(needed)
