"""The client's settings from environment variables: URL and token of the server."""

from __future__ import annotations

import os
from pathlib import Path

#: URL of the server if none is configured.
DEFAULT_URL = "http://127.0.0.1:8000"


def url() -> str:
    """Returns the URL of the server: OCR_URL, or the local server at OCR_PORT (default: 8000)."""
    port = os.environ.get("OCR_PORT")
    local = f"http://127.0.0.1:{port}" if port else DEFAULT_URL
    return configured_url() or local


def configured_url() -> str | None:
    """Returns OCR_URL, None if it is not set."""
    return os.environ.get("OCR_URL") or None


def token() -> str:
    """Returns the token: OCR_TOKEN, or the file `ocr_token` in OCR_SECRETS_DIR; '' if not set.

    Commands do not take the token as an argument, because the process list shows arguments.
    """
    text = os.environ.get("OCR_TOKEN")
    folder = os.environ.get("OCR_SECRETS_DIR")
    if text is None and folder and (file := Path(folder, "ocr_token")).is_file():
        text = file.read_text()
    return (text or "").strip()
