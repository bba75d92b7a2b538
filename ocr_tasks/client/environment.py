"""What the environment says of the server that this process is a client of."""

from __future__ import annotations

import os
from pathlib import Path

#: The server that a client talks to where nobody says which.
DEFAULT_URL = "http://127.0.0.1:8000"


def url() -> str:
    """The address of the server: OCR_URL, else that of one on this machine, at OCR_PORT."""
    port = os.environ.get("OCR_PORT")
    here = f"http://127.0.0.1:{port}" if port else DEFAULT_URL
    return os.environ.get("OCR_URL") or here


def token() -> str:
    """The token for it, '' for none: OCR_TOKEN, or the file `ocr_token` of OCR_SECRETS_DIR.

    Not an argument of commands: those can be seen in the list of processes.
    """
    found = os.environ.get("OCR_TOKEN")
    folder = os.environ.get("OCR_SECRETS_DIR")
    if found is None and folder and (file := Path(folder, "ocr_token")).is_file():
        found = file.read_text()
    return (found or "").strip()
