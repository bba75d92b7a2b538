"""The forms that are sent to us, as OpenAPI describes them."""

from __future__ import annotations

from typing import Any

from ocr_tasks.options import JobOptions
from web import extensions


def submit_form() -> dict[str, Any]:
    """The form of POST /v1/jobs as OpenAPI describes it: files, and the options."""
    schema = JobOptions.model_json_schema()
    files = {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "description": "One or more files; several become one PDF in this order.",
    }
    callback = {
        "callback_url": {
            "type": "string",
            "description": "Where to POST how the job ended, signed after Standard Webhooks.",
        },
        "callback_events": {
            "type": "string",
            "enum": ["end", "stages"],
            "default": "end",
            "description": "stages: tell of each stage as well.",
        },
    }
    uploads = {
        "upload": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Instead of files: ids, or addresses, of finished uploads of "
            "/v1/uploads; several become one PDF in this order.",
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
    """A form of one file and one text field, as OpenAPI describes it."""
    file = {"type": "string", "format": "binary", "description": "One file."}
    text = {"type": "string", "description": description}
    properties = {"file": file, field: text}
    return _multipart({"type": "object", "required": ["file"], "properties": properties})


def _multipart(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"multipart/form-data": {"schema": schema}}, "required": True}
