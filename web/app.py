"""The Flask application."""

from __future__ import annotations

from importlib.metadata import version

from flask import Flask
from flask_openapi3 import Info, OpenAPI

from web import health, jobs, problems, site, uploads

DESCRIPTION = (
    "Send PDFs and images, follow the progress page by page, fetch searchable PDFs. "
    "Errors are application/problem+json with a stable `code`; /docs lists them."
)


def create_app() -> Flask:
    """The application; all it needs to know comes from the settings."""
    app = OpenAPI(
        "web",
        info=Info(title="OCR Tasks", version=version("ocr-tasks"), description=DESCRIPTION),
        doc_prefix="/docs/api",
        validation_error_callback=problems.validation_failed,
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider's
    problems.install(app)
    uploads.install(app)
    for blueprint in (jobs.blueprint, site.blueprint, health.blueprint):
        app.register_api(blueprint)
    for methods in app.api_doc["paths"].values():
        for operation in methods.values():
            # flask-openapi3 makes HTML of the line ends of docstrings.
            text = operation.get("description", "")
            operation["description"] = text.replace("<br/>", " ").strip()
    return app
