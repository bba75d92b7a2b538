"""OpenAPI descriptions of form requests."""

from __future__ import annotations

from typing import Any

from ocr_tasks.options import JobOptions
from web import extensions


def submit_form() -> dict[str, Any]:
    """Returns the OpenAPI request body of POST /v1/jobs: files and options."""
    schema = JobOptions.model_json_schema()
    files = {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "description": "One or more files. Several become one PDF, in this order.",
    }
    callback = {
        "callback_url": {
            "type": "string",
            "description": "URL for a webhook when the job ends, signed per Standard Webhooks.",
        },
        "callback_events": {
            "type": "string",
            "enum": ["end", "stages"],
            "default": "end",
            "description": "`stages`: also send a webhook for each stage.",
        },
    }
    uploads = {
        "upload": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Instead of files: ids or URLs of finished uploads of /v1/uploads. "
            "Several become one PDF, in this order.",
        }
    }
    schema["properties"] = {
        "file": files,
        **uploads,
        **{k: v for one in extensions.installed() for k, v in one.form_fields.items()},
        **schema["properties"],
        **callback,
    }
    return _multipart(schema)


def file_form(field: str, description: str) -> dict[str, Any]:
    """Returns the OpenAPI request body of a form with one file and one text field."""
    file = {"type": "string", "format": "binary", "description": "One file."}
    text = {"type": "string", "description": description}
    properties = {"file": file, field: text}
    return _multipart({"type": "object", "required": ["file"], "properties": properties})


def _multipart(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"multipart/form-data": {"schema": schema}}, "required": True}
