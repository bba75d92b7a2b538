"""Request bodies that break off."""

from __future__ import annotations

import io

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ocr_tasks import settings

BOUNDARY = "b-0-u-n-d"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def form(*parts: tuple[str, bytes]) -> bytes:
    """Returns a form; each part is its disposition without `form-data`, and its content."""
    heads = [
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
        for disposition, _ in parts
    ]
    contents = [content + b"\r\n" for _, content in parts]
    return (
        b"".join(map(b"".join, zip(heads, contents, strict=True))) + f"--{BOUNDARY}--\r\n".encode()
    )


def send(
    http: FlaskClient,
    method: str,
    address: str,
    kind: str,
    body: bytes,
    announced: int | None = None,
    **headers: str,
) -> TestResponse:
    """Sends a body as gunicorn passes it on: it ends where the connection breaks.

    `announced` is the Content-Length; without it, the body is chunked.
    """
    environ: dict[str, object] = {"wsgi.input_terminated": True}
    if announced is None:
        environ["HTTP_TRANSFER_ENCODING"] = "chunked"
    else:
        environ["CONTENT_LENGTH"] = str(announced)
    return http.open(
        address,
        method=method,
        content_type=kind,
        input_stream=io.BytesIO(body),
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        environ_overrides=environ,
    )


def kept() -> list[str]:
    """Returns the files that uploads and jobs have left."""
    data = settings.get().data_dir
    return [str(path) for name in ("uploads", "jobs") for path in (data / name).rglob("*")]
