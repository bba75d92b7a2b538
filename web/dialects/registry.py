"""The interfaces of other services: each a blueprint over our jobs, there if a setting wants it."""

from __future__ import annotations

import importlib

from flask_openapi3 import OpenAPI

from ocr_tasks import settings


def install(app: OpenAPI) -> None:
    """Makes an application speak what the settings want it to."""
    for name in settings.get().dialect_names:
        # Named like its module, which is loaded only where it is wanted.
        app.register_api(importlib.import_module(f"web.dialects.{name}").blueprint)
