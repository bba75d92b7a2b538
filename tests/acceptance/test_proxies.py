"""The reverse proxy configurations of docs/how-to/proxy.md, in front of a stack."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import trustme

from tests import documents
from tests.conftest import Stack, free_port, submit, wait_for_end, wait_until
from tests.parts import another_web

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("stack")]

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "proxy.md"

#: All of 127.0.0.0/8 is loopback, which gives each client its own IP address.
CLIENT = "127.0.0.2"


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.S)
    return str(found)


def nginx(folder: Path, stack: Stack, certificate: Path, port: int) -> list[str]:
    """Returns the command that runs nginx with the servers of the guide."""
    servers = block("nginx")
    for ours, theirs in (
        (r"listen (\[::\]:)443 ssl;", ""),
        (r"listen 443 ", f"listen 127.0.0.1:{port} "),
        (r"listen (\[::\]:)80;", ""),
        (r"listen 80;", f"listen 127.0.0.1:{free_port()};"),
        (r"/etc/ssl/ocr.example.(pem|key)", str(certificate)),
        (r"http://127.0.0.1:8000", stack.url),
    ):
        servers, found = re.subn(ours, theirs, servers)
        assert found, ours
    temporary = " ".join(
        f"{kind}_temp_path {folder};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/log warn;\n"
        f"events {{}}\nhttp {{ access_log off; {temporary}\n{servers} }}\n"
    )
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    assert program, "nginx is not installed; scripts/setup --dev installs it"
    command = [program, "-e", str(folder / "log"), "-c", str(folder / "nginx.conf")]
    subprocess.run([*command, "-t", "-q"], check=True)
    return command


def caddy(folder: Path, stack: Stack, certificate: Path, port: int) -> list[str]:
    """Returns the command that runs Caddy with the site of the guide."""
    program = shutil.which("caddy")
    assert program, "Caddy is not installed; scripts/setup --dev installs it"
    site = block("caddy").replace("127.0.0.1:8000", stack.url)
    site = site.replace(
        "ocr.example {", f"https://ocr.example:{port} {{\n tls {certificate} {certificate}"
    )
    (folder / "Caddyfile").write_text("{\n admin off\n auto_https off\n}\n" + site)
    return [program, "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


@pytest.fixture(scope="module")
def behind(stack: Stack) -> Iterator[Stack]:
    """Runs a web server that is configured for a proxy."""
    settings = {"OCR_TRUSTED_PROXIES": "1", "OCR_HOSTS": "ocr.example", "OCR_ACCESS": "open"}
    with another_web(stack, **settings, OCR_LOG_LEVEL="DEBUG", OCR_LOG_FORMAT="json") as web:
        yield web


@pytest.fixture(params=[nginx, caddy], ids=["nginx", "caddy"])
def proxy(
    request: pytest.FixtureRequest, behind: Stack, tmp_path: Path
) -> Iterator[Callable[[], httpx.Client]]:
    """Runs a proxy in front of the stack; returns a function that creates its HTTPS clients."""
    authority, port = trustme.CA(), free_port()
    certificate = tmp_path / "certificate.pem"
    authority.issue_cert("ocr.example").private_key_and_cert_chain_pem.write_to_path(certificate)
    command = request.param(tmp_path, behind, certificate, port)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)

    def client() -> httpx.Client:
        return httpx.Client(
            base_url=f"https://127.0.0.1:{port}",
            headers={"Host": f"ocr.example:{port}"},
            transport=_Named(verify=trust, local_address=CLIENT),
            timeout=90,
        )

    def answers() -> bool:
        with contextlib.suppress(httpx.TransportError), client() as http:
            return http.get("/healthz").status_code == 200
        return False

    with (tmp_path / "said").open("wb") as said:
        running = subprocess.Popen(command, stdout=said, stderr=said, env={"HOME": str(tmp_path)})
    try:
        wait_until(answers)
        yield client
    finally:
        running.terminate()
        running.wait()


class _Named(httpx.HTTPTransport):
    """Connects to an IP address, and requests the host name of the certificate there."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sni_hostname"] = "ocr.example"
        return super().handle_request(request)


def test_a_document_is_processed_through_a_proxy(
    proxy: Callable[[], httpx.Client], behind: Stack, tmp_path: Path
) -> None:
    with proxy() as http:
        # 8 MB, which nginx would write to its disk if it buffered bodies.
        answer = submit(http, ("scan.pdf", documents.scan("garden") + b"\n" * 8_000_000))
        assert answer.status_code == 202, answer.text
        job = answer.json()
        with http.stream("GET", f"/v1/jobs/{job['id']}/events") as events:
            first = next(line for line in events.iter_lines() if line.startswith("data:"))
        ended = wait_for_end(http, job)
        text = http.get(f"/v1/jobs/{job['id']}/text").text

    assert json.loads(first.removeprefix("data:"))["state"] in ("queued", "running")
    assert ended["state"] == "succeeded"
    assert "garden" in text
    log = tmp_path / "log"
    assert not log.exists() or "buffered to a temporary file" not in log.read_text()


def test_the_server_sees_the_clients_ip_address_and_ignores_forged_headers(
    proxy: Callable[[], httpx.Client], behind: Stack
) -> None:
    with proxy() as http:
        http.get("/v1/options?from=here")
        http.get("/v1/languages", headers={"X-Forwarded-For": "192.0.2.7"})
        # What the page sends: its own host name and protocol.
        nothing = f"/v1/jobs/{uuid4()}/cancel"
        same = http.post(nothing, headers={"Origin": f"https://{http.headers['Host']}"})
        other = http.post(nothing, headers={"Origin": "https://elsewhere.example"})

    lines = [json.loads(line) for line in behind.log.read_text().splitlines() if "address" in line]
    seen = {(line["path"], line["address"]) for line in lines if "path" in line}
    assert ("/v1/options", CLIENT) in seen
    assert {address for path, address in seen if path == "/v1/languages"} == {CLIENT}
    assert same.json()["code"] == "job_not_found"
    assert other.json()["code"] == "cross_site"
