"""A stack with a Redis on another host: over TLS, as a user without administrative rights.

It also writes JSON logs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import trustme
from celery import Celery

from ocr_tasks import settings
from ocr_tasks.jobs import celery_app
from tests import documents
from tests.conftest import (
    DATA,
    RIGHTS,
    Stack,
    free_port,
    running_stack,
    submit,
    wait_for_end,
    wait_until,
)

pytestmark = pytest.mark.acceptance

PASSWORD = "password-of-ocr"
PAGE = DATA / "huckleberry-finn-p22.pdf"


@dataclass
class Server:
    """A Redis that accepts only TLS."""

    port: int
    ca: Path
    password_of_admin: str

    def url(self, query: str = "") -> str:
        """Returns its URL for the user of the service."""
        return f"rediss://ocr:{PASSWORD}@localhost:{self.port}/0{query}"

    @property
    def trusted(self) -> str:
        return self.url(f"?ssl_ca_certs={self.ca}")

    def admin(self) -> redis.Redis:
        return redis.Redis(
            host="localhost",
            port=self.port,
            username="admin",
            password=self.password_of_admin,
            ssl=True,
            ssl_ca_certs=str(self.ca),
            decode_responses=True,
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    made = Server(free_port(), folder / "ca.pem", "password-of-admin")
    authority.cert_pem.write_to_path(str(made.ca))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    (folder / "users.acl").write_text(
        "user default off resetpass ~* &* +@all\n"
        f"user ocr on >{PASSWORD} ~* &* {RIGHTS}\n"
        f"user admin on >{made.password_of_admin} ~* &* +@all\n"
    )
    program = shutil.which("redis-server")
    assert program
    options = {
        "--port": "0",
        "--tls-port": str(made.port),
        "--bind": "127.0.0.1",
        "--tls-cert-file": "cert.pem",
        "--tls-key-file": "key.pem",
        "--tls-auth-clients": "no",
        "--aclfile": "users.acl",
        "--appendonly": "yes",
        "--maxmemory-policy": "noeviction",
    }
    words = [word for pair in options.items() for word in pair]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, *words], cwd=folder, stdout=log)

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return bool(made.admin().ping())
        except redis.ConnectionError:
            return False

    wait_until(answers)
    yield made
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def stack(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that uses this Redis, with JSON logs."""
    with running_stack(
        tmp_path_factory.mktemp("stack"),
        OCR_REDIS_URL=server.trusted,
        OCR_LOG_FORMAT="json",
        OCR_PLUGINS="tests.plugins.faults",
    ) as running:
        yield running


def test_a_document_is_processed_over_tls_without_administrative_rights(
    server: Server, stack: Stack, http: httpx.Client
) -> None:
    job = submit(http, PAGE).json()
    assert wait_for_end(http, job)["state"] == "succeeded"
    assert "stooping" in http.get(f"/v1/jobs/{job['id']}/text").text
    names = {client["user"] for client in server.admin().client_list()}
    assert names == {"ocr", "admin"}
    assert server.admin().acl_log() == []
    assert "insecure" not in stack.log.read_text()


def test_each_log_line_is_json_with_its_job_and_without_secrets(
    stack: Stack, http: httpx.Client
) -> None:
    seen = len(stack.log.read_text())
    good = submit(http, PAGE).json()
    bad = submit(http, PAGE, title="fault: crash", on_page_error="fail").json()
    assert wait_for_end(http, good)["state"] == "succeeded"
    assert wait_for_end(http, bad)["state"] == "failed"
    name = "a\nforged line.pdf"
    refused = submit(http, (name, documents.encrypted("x")))
    assert refused.status_code == 422
    wait_until(lambda: "raised expected" in stack.log.read_text()[seen:])
    words = stack.log.read_text().rpartition("\n")[0]  # without a line that is being written

    assert [line for line in words.splitlines() if line[:1] != "{"] == []
    rows: list[dict[str, Any]] = [json.loads(line) for line in words.splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(row) for row in rows)
    for job in (good, bad):
        about = [row["logger"] for row in rows if row.get("job") == job["id"]]
        assert {"celery.worker.strategy", "celery.app.trace"} <= set(about)
    access = [row for row in rows if row["logger"] == "web.access"]
    assert [row["status"] for row in access if row["method"] == "POST"][-3:] == [202, 202, 422]
    assert PASSWORD not in words
    assert "stooping" not in words
    assert "forged line" not in words


@pytest.mark.parametrize("command", ["worker", "web", "up"])
def test_an_untrusted_certificate_ends_each_component(
    server: Server, tmp_path: Path, command: str
) -> None:
    said = _start(command, tmp_path, OCR_REDIS_URL=server.url())
    assert "OCR_REDIS_URL: Redis is not trusted: unable to get local issuer certificate" in said


def test_the_broker_sends_no_password_to_an_untrusted_server(server: Server) -> None:
    with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        _broker(server.url()).connect()
    with _broker(server.trusted) as trusted:
        trusted.connect()
    # The host name in the certificate counts as well.
    with pytest.raises(redis.ConnectionError, match="certificate is not valid for"):
        _broker(server.trusted.replace("localhost", "127.0.0.1")).connect()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("rediss://x?ssl_ca_certs=/nowhere/ca.pem", "/nowhere/ca.pem cannot be read"),
        ("rediss://x?ssl_cert_reqs=maybe", "ssl_cert_reqs must be required, optional or none"),
        ("redis://x?ssl_cert_reqs=required", "TLS options require rediss://"),
    ],
)
def test_invalid_tls_options_are_refused(address: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        settings.Settings(redis_url=address)


def _broker(address: str) -> Any:
    configured = Celery()
    configured.config_from_object(celery_app._configuration(settings.Settings(redis_url=address)))
    return configured.connection_for_write()


def _start(command: str, folder: Path, **variables: str) -> str:
    """Returns the output of a component that ends because of a setting."""
    ran = subprocess.run(
        [sys.executable, "-m", "ocr_tasks.cli", command],
        env={**os.environ, "OCR_DATA_DIR": str(folder), "OCR_PORT": str(free_port()), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode != 0
    return ran.stderr
