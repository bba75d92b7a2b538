"""Two hosts that share Redis, over TLS, and a folder: one document is processed on both."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.acceptance.test_main_job import text_of
from tests.compose.stack import (
    FILES,
    ROOT,
    Compose,
    docker,
    gateway,
    gone_afterwards,
    wait_for_state,
)
from tests.compose.test_stack import long_scan
from tests.conftest import submit, wait_until


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Compose, Compose]]:
    folder = tmp_path_factory.mktemp("hosts")
    first = Compose(folder / "first", "ocr-tasks-first", FILES[:2])
    second = Compose(folder / "second", "ocr-tasks-second", FILES[2:])
    address = gateway("bridge")
    subprocess.run([ROOT / "scripts" / "make-certificate", address, first.folder], check=True)
    first.set(REDIS_PUBLISHED_HOST=address, OCR_WORKER_PROCESSES="1")
    with gone_afterwards(first, second):
        first.up("redis", "web", "worker")
        wait_until(lambda: first.ready(), 120)
        share = docker("volume", "inspect", "-f", "{{.Mountpoint}}", f"{first.project}_data")
        second.put_secret("ocr_redis_password", first.secret("web", "ocr_redis_password"))
        second.put_secret("redis_ca", (first.folder / "secrets/redis_ca").read_text())
        second.set(
            REDIS_HOST=address,
            OCR_WORKER_PROCESSES="1",
            # In place of NFS on real hosts: a folder that belongs to another user.
            SHARE_TYPE="none",
            SHARE_OPTIONS="bind",
            SHARE_DEVICE=share.strip(),
        )
        second.up()
        wait_until(lambda: first.ready(workers=2), 60)
        yield first, second


def test_a_document_is_processed_on_both_hosts(hosts: tuple[Compose, Compose]) -> None:
    first, _second = hosts
    with httpx.Client(base_url=first.url, timeout=90) as client:
        job = submit(client, ("long.pdf", long_scan(2)), languages="eng").json()
        done = wait_for_state(client, job["id"], "succeeded")
        assert not done["failed_pages"]
        assert "stooping down so as" in text_of(client.get(f"/v1/jobs/{job['id']}/pdf").content)
        rows = client.get(f"/v1/jobs/{job['id']}/pages").json()["pages"]

    by_host = {name[:12]: 0 for host in hosts for name in host.containers("worker")}
    assert len(by_host) == 2
    for row in rows:
        by_host[row["worker"]] += 1
    assert all(by_host.values()), by_host


def test_the_hosts_share_no_docker_network(hosts: tuple[Compose, Compose]) -> None:
    first, second = hosts

    def networks(host: Compose, service: str) -> set[str]:
        return set(host.inspect(service)["NetworkSettings"]["Networks"])

    assert not networks(second, "worker") & networks(first, "worker")
    assert not networks(second, "worker") & networks(first, "redis")


def test_a_worker_on_another_host_has_the_same_limits_and_restrictions(
    hosts: tuple[Compose, Compose],
) -> None:
    here, there = (host.inspect("worker") for host in hosts)
    for name in ("ReadonlyRootfs", "CapDrop", "SecurityOpt", "PidsLimit", "Memory", "MemorySwap"):
        assert here["HostConfig"][name] == there["HostConfig"][name], name
    for name in ("NanoCpus", "Tmpfs", "RestartPolicy", "LogConfig", "Init"):
        assert here["HostConfig"][name] == there["HostConfig"][name], name
    limits = [sorted(host["HostConfig"]["Ulimits"], key=str) for host in (here, there)]
    assert limits[0] == limits[1]
    for name in ("User", "StopTimeout", "Healthcheck", "Cmd", "Image"):
        assert here["Config"][name] == there["Config"][name], name


def test_a_redis_with_another_certificate_is_refused(
    hosts: tuple[Compose, Compose], tmp_path: Path
) -> None:
    _first, second = hosts
    subprocess.run([ROOT / "scripts" / "make-certificate", gateway("bridge"), tmp_path], check=True)
    ran = second.run(
        *("run", "--rm", "--no-TTY", "--volume", f"{tmp_path}/secrets/redis_ca:/ca:ro"),
        *("--env", f"OCR_REDIS_URL=rediss://ocr@{gateway('bridge')}:6380/0?ssl_ca_certs=/ca"),
        *("worker", "worker"),
        check=False,
    )
    assert ran.returncode != 0
    assert "not trusted" in ran.stdout + ran.stderr
