"""The web pages, the API reference, and the lists of options and languages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from flask import Response, current_app, render_template
from flask_openapi3 import APIBlueprint, Tag
from markupsafe import Markup, escape

from ocr_tasks import errors, settings
from ocr_tasks.jobs import worker_registry
from ocr_tasks.options import JobOptions
from web import extensions
from web.http import problems
from web.http.responses import json_response
from web.http.schemas import LanguageBody, LanguageListBody
from web.site import languages, texts

blueprint = APIBlueprint(
    "site", __name__, abp_tags=[Tag(name="Discovery", description="Options and languages")]
)

_CODE = re.compile("`([^`]+)`")

CSP = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)

STATIC = Path(__file__).parent / "static"

_IMPORT = re.compile(r'^import .*"\./(\w+\.js)";$', re.M)


def _modules(name: str, found: frozenset[str] = frozenset()) -> frozenset[str]:
    """Returns a script and all its direct and indirect imports."""
    found |= {name}
    for imported in _IMPORT.findall((STATIC / name).read_text()):
        if imported not in found:
            found |= _modules(imported, found)
    return found


#: Preloaded by the page. Otherwise browsers would discover them one after another.
_MODULES = sorted(_modules("app.js"))


@blueprint.app_template_filter("code")
def _code(text: str) -> Markup:
    """Converts text in backticks to <code>."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704  # escaped before


@blueprint.get("/", doc_ui=False)
def page() -> Response:
    """Show the web page."""
    links = {path: name for one in extensions.installed() for path, name in one.links.items()}
    return html("index.html", resumable_from=settings.get().resumable_bytes, links=links)


@blueprint.get("/docs", doc_ui=False)
def docs() -> Response:
    """Show the API reference: endpoints, options, errors."""
    spec: dict[str, Any] = current_app.api_doc  # type: ignore[attr-defined]  # flask-openapi3's
    rows = [(code, cls, problems.statuses().get(cls)) for code, cls in errors.by_code().items()]
    return html("docs.html", spec=spec, errors=rows, options=JobOptions.model_json_schema())


@blueprint.get("/openapi.json", doc_ui=False)
def openapi() -> Response:
    """Get the OpenAPI 3.1 document."""
    return json_response(current_app.api_doc, cache="no-cache")  # type: ignore[attr-defined]


@blueprint.get("/v1/options")
def options_schema() -> Response:
    """Get the JSON schema of a job's options."""
    schema = JobOptions.model_json_schema()
    schema["properties"]["languages"]["default"] = settings.get().default_languages.split("+")
    return json_response(
        {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, cache="no-cache"
    )


@blueprint.get("/v1/languages", responses={200: LanguageListBody})
def installed_languages() -> Response:
    """List the installed languages."""
    body = LanguageListBody(
        languages=[
            LanguageBody(code=code, name=languages.name(code))
            for code in worker_registry.languages()
        ],
        default=settings.get().default_languages.split("+"),
    )
    return json_response(body.model_dump(), cache="no-cache")


def html(template: str, **values: Any) -> Response:
    """Returns a page in the browser's language. Its template gets `values` and the texts."""
    language = texts.language()
    said = texts.table(language)
    content = render_template(
        template, t=said, language=language, spoken=texts.LANGUAGES, modules=_MODULES, **values
    )
    response = Response(content, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = CSP
    response.headers["Cache-Control"] = "no-cache"
    response.vary.update(("Accept-Language", "Cookie"))
    return response
