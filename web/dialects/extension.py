"""The extension for interfaces of other services; see `web.extensions`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import ClassVar

from flask_openapi3 import APIBlueprint

from ocr_tasks import settings
from ocr_tasks.model import Scope
from web.extensions import WebExtension

_READ = frozenset({Scope.READ})
_SUBMIT = frozenset({Scope.SUBMIT})
_ANY = frozenset(Scope)
_PUBLIC: frozenset[Scope] = frozenset()


class DialectsExtension(WebExtension):
    """One blueprint for each name in OCR_DIALECTS, which is also the name of its module."""

    scopes: ClassVar[Mapping[str, frozenset[Scope]]] = {
        # Nextcloud registers the server unless one of these is refused.
        "nextcloud.heartbeat": _PUBLIC,
        "nextcloud.initialise": _SUBMIT,
        "nextcloud.enable": _SUBMIT,
        "nextcloud.process": _SUBMIT,
        "nextcloud.installed_languages": _ANY,
        "demo.create": _SUBMIT,
        "demo.progress": _READ,
        "demo.results": _READ,
        "demo.download": _READ,
        "azure.analyze": _SUBMIT,
        "azure.result": _READ,
        "azure.result_pdf": _READ,
        "azure.delete": _SUBMIT,
        "azure.models": _ANY,
        "azure.model": _ANY,
        "azure.info": _ANY,
        "azure.unknown": _PUBLIC,
    }
    token_headers: ClassVar[Mapping[str, str]] = {"azure": "Ocp-Apim-Subscription-Key"}
    pair_headers: ClassVar[Mapping[str, str]] = {"nextcloud": "AUTHORIZATION-APP-API"}

    def blueprints(self) -> Sequence[APIBlueprint]:
        names = settings.get().dialects
        modules = (importlib.import_module(f"web.dialects.{name}") for name in names)
        return tuple(module.blueprint for module in modules)


extension = DialectsExtension()
