"""The extension for OCR-D; see `web.extensions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from flask_openapi3 import APIBlueprint, OpenAPI

from ocr_tasks import errors
from ocr_tasks.errors import OcrTasksError
from ocr_tasks.jobs import worker_registry
from ocr_tasks.model import Scope
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import settings as ocrd_settings
from ocr_tasks.uploads import receive
from web.extensions import DocumentSource, HealthCheck, Starting, WebExtension

_ROUTES = (
    *("discovery.home", "discovery.show", "discovery.processors", "discovery.processor"),
    *("processing.run", "processing.show", "processing.cancel", "processing.log"),
    *("workflows.create", "workflows.replace", "workflows.show", "workflows.run"),
    *("workflows.job", "workflows.job_state", "workflows.cancel"),
    *("workspaces.index", "workspaces.create", "workspaces.import_external"),
    *("workspaces.show", "workspaces.replace", "workspaces.delete"),
    *("processing.results", "processing.acknowledge"),
    # Endpoints of version 0.0.1.
    *("processing.older_processor", "processing.older_run", "processing.older_show"),
    *("processing.older_log", "workflows.older_run", "workflows.older_job"),
)


class OcrdExtension(WebExtension):
    """OCR-D's Web API, and documents created from the images of a workspace."""

    scopes: ClassVar[Mapping[str, frozenset[Scope]]] = {
        f"ocrd_{route}": frozenset({Scope.OCRD}) for route in _ROUTES
    }
    statuses: ClassVar[Mapping[type[OcrTasksError], int]] = {
        ocrd_errors.WorkspaceInvalid: 400,
        ocrd_errors.WorkspaceNotFound: 404,
        ocrd_errors.WorkspaceDeleted: 410,
        ocrd_errors.WorkspaceBusy: 409,
        ocrd_errors.WorkspaceDownloadFailed: 400,
        ocrd_errors.PageIdsInvalid: 422,
        ocrd_errors.FileGroupUnknown: 422,
        ocrd_errors.ProcessorNotFound: 404,
        ocrd_errors.ProcessorUnavailable: 422,
        ocrd_errors.ParametersInvalid: 400,
        ocrd_errors.ProcessingInvalid: 422,
        ocrd_errors.ProcessingNotFound: 404,
        ocrd_errors.WorkflowInvalid: 422,
        ocrd_errors.WorkflowNotFound: 404,
        ocrd_errors.WorkflowExists: 409,
        ocrd_errors.NextflowUnavailable: 422,
    }
    unsafe_gets = frozenset({"ocrd_processing.results"})
    basic_auth = frozenset(
        f"ocrd_{name}" for name in ("discovery", "processing", "workflows", "workspaces")
    )
    source_field = "workspace"
    form_fields: ClassVar[Mapping[str, dict[str, Any]]] = {
        "workspace": {
            "type": "string",
            "description": "Instead of files: id of an OCR-D workspace whose images are "
            "processed. The results are added to it as the file groups OCR-D-OCR-PAGE, -ALTO, "
            "-HOCR and -PDF.",
        },
        "workspace_group": {
            "type": "string",
            "description": "File group with the workspace's images. Default: the first that "
            "contains all pages.",
        },
        "page_id": {
            "type": "string",
            "description": "Pages of the workspace, in OCR-D's syntax, "
            "e.g. `PHYS_0001..PHYS_0009`.",
        },
    }

    def blueprints(self) -> Sequence[APIBlueprint]:
        from web.ocrd import discovery, processing, workflows, workspaces

        modules = (discovery, processing, workflows, workspaces)
        return tuple(module.blueprint for module in modules)

    def install(self, app: OpenAPI) -> None:
        from web.ocrd import blueprints

        blueprints.install(app)

    def health_checks(self) -> Sequence[HealthCheck]:
        if not ocrd_settings.get().processors:
            return ()
        advice = "Start them with `ocr-tasks worker --processors NAMES`, or see its log."
        return (HealthCheck("processors", _need_processors, advice),)

    def document_source(
        self, incoming: receive.Upload, form: dict[str, list[str]], owner: str | None
    ) -> DocumentSource | None:
        from web.ocrd import from_workspace

        return from_workspace.copy_images(incoming, form, owner)


def _need_processors() -> None:
    config = ocrd_settings.get()
    wanted = config.processors
    offered = {name for worker in worker_registry.running_workers() for name in worker.processors}
    lost = [name for name in wanted if name not in offered]
    # If document workers do not offer the built-in processor, there may be no worker that does.
    awaited = config.processors_share_worker or not config.only_own_processor
    text = f"no running worker offers {', '.join(lost)}"
    if awaited and len(lost) == len(wanted):
        raise Starting(f"no worker offers {', '.join(lost)} yet, which takes some seconds", text)
    if lost:
        raise errors.ServiceError(text)


extension = OcrdExtension()
