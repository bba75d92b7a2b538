"""The interfaces of other services: each a blueprint over our jobs, there if a setting wants it."""

from __future__ import annotations

from collections.abc import Mapping

from flask_openapi3 import APIBlueprint, OpenAPI

from ocr_tasks import settings
from web.dialects import azure, demo, nextcloud

#: By the name that OCR_DIALECTS has for it.
_BLUEPRINTS: Mapping[str, APIBlueprint] = {
    "azure": azure.blueprint,
    "nextcloud": nextcloud.blueprint,
    "demo": demo.blueprint,
}


def install(app: OpenAPI) -> None:
    """Makes an application speak what the settings want it to."""
    for name in settings.get().dialect_names:
        app.register_api(_BLUEPRINTS[name])
