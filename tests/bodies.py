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


def cuts(body: bytes) -> list[int]:
    """Returns lengths between nothing and the last byte that is needed."""
    return [0, 1, len(body) // 4, len(body) // 2, len(body) * 4 // 5, len(body) - 5]


def refuses_parts_of(
    http: FlaskClient, address: str, kind: str, body: bytes, chunked: bool
) -> None:
    """Checks that bodies that break off are refused and leave nothing."""
    for length in cuts(body):
        announced = None if chunked else len(body)
        answer = send(http, "POST", address, kind, body[:length], announced)

        assert answer.status_code in (400, 500), (length, answer.text)  # 500: Nextcloud's errors
        assert "malformed_request" in answer.text or "missing_file" in answer.text, answer.text
        assert kept() == []
    assert http.get("/v1/jobs").get_json()["jobs"] == []
