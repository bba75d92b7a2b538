"""`docker compose up` as a user runs it. The tests run in this order on one stack.

`make test-compose` runs them, because they need the image.
"""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pikepdf
import pytest
from playwright.sync_api import Browser, expect

from tests.acceptance.test_main_job import text_of
from tests.compose.stack import (
    Compose,
    docker,
    gateway,
    gone_afterwards,
    wait_for_state,
)
from tests.conftest import DATA, SIX_PAGES, submit, wait_until
from tests.receivers import receiving

SCAN = DATA / "huckleberry-finn-p22.pdf"
OURS = ("web", "worker", "courier", "flower")
ALL = ("redis", *OURS)
_DOCUMENTS = {"ocr_redis_password", "ocr_s3_access_key_id", "ocr_s3_secret_access_key"}
#: The secrets of each service.
SECRETS = {
    "redis": {"redis_acl"},
    "web": _DOCUMENTS,
    "worker": _DOCUMENTS,
    "courier": {"ocr_redis_password", "ocr_webhook_secrets"},
    "flower": {"ocr_redis_password", "ocr_flower_password"},
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    made = Compose(tmp_path_factory.mktemp("compose") / "ocr-tasks", "ocr-tasks-test")
    # A network without other services, for the test's own receiver of webhooks.
    made.set(OCR_CALLBACK_NETWORKS="172.16.0.0/12,192.168.0.0/16", OCR_WORKER_PROCESSES="1")
    # As in docs/how-to/paperless.md.
    made.set(WORKER_CPUS="1", OCR_DIALECTS="azure", OCR_HOSTS="web")
    with gone_afterwards(made):
        made.up(worker=2)
        wait_until(lambda: made.ready(workers=2), 120)
        yield made


@pytest.fixture
def http(stack: Compose) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=90) as client:
        yield client


def long_scan(copies: int) -> bytes:
    """Returns the pages of a scan, repeated many times."""
    with pikepdf.open(SIX_PAGES) as source, pikepdf.new() as made:
        for _ in range(copies):
            made.pages.extend(source.pages)
        buffer = io.BytesIO()
        made.save(buffer)
    return buffer.getvalue()


def reading(client: httpx.Client, job_id: str, pages: int = 1) -> dict[str, Any] | None:
    """Returns the job if it is running and has finished this many pages."""
    job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
    assert job["state"] in ("queued", "running"), job
    return job if job["progress"]["pages_done"] >= pages else None


# Limits and restrictions of containers


@pytest.mark.parametrize("service", ALL)
def test_a_container_has_only_the_privileges_that_it_needs(stack: Compose, service: str) -> None:
    found = stack.inspect(service)
    host, config = found["HostConfig"], found["Config"]

    assert config["User"] == ("redis" if service == "redis" else "10001:10001")
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Privileged"] is False
    assert host["Init"] is True
    assert 0 < host["PidsLimit"] <= 512
    assert 0 < host["Memory"] == host["MemorySwap"]
    assert host["NanoCpus"] > 0
    assert host["Tmpfs"]["/tmp"].startswith("size=")
    assert all(word in host["Tmpfs"]["/tmp"] for word in ("noexec", "nosuid", "nodev"))
    limits = {row["Name"]: row["Hard"] for row in host["Ulimits"]}
    assert limits == {"core": 0, "nofile": 4096}
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert set(host["LogConfig"]["Config"]) == {"max-size", "max-file"}
    assert config["StopTimeout"] >= 30
    assert host["NetworkMode"].startswith(stack.project)
    assert host["PidMode"] == host["UsernsMode"] == ""
    assert not host["Devices"]
    assert not [row for row in found["Mounts"] if "docker.sock" in row["Source"]]
    assert config["Healthcheck"]["Test"]


def test_only_web_and_flower_are_published_and_only_on_this_machine(stack: Compose) -> None:
    published = {name: stack.inspect(name)["HostConfig"]["PortBindings"] for name in ALL}

    assert {name for name, ports in published.items() if ports} == {"web", "flower"}
    addresses = {row["HostIp"] for ports in published.values() for p in ports.values() for row in p}
    assert addresses == {"127.0.0.1"}


def test_networks_connect_only_what_needs_to_be_connected(stack: Compose) -> None:
    def networks(service: str) -> set[str]:
        names = stack.inspect(service)["NetworkSettings"]["Networks"]
        return {name.removeprefix(f"{stack.project}_") for name in names}

    assert {name: networks(name) for name in ALL} == {
        "redis": {"broker"},
        "worker": {"broker", "objects"},
        "web": {"broker", "edge", "objects", "swarm", "monitoring"},
        "flower": {"broker", "edge"},
        "courier": {"broker", "outside"},
    }
    for name in ("broker", "objects", "swarm", "monitoring"):
        network = json.loads(docker("network", "inspect", f"{stack.project}_{name}"))[0]
        assert network["Internal"] is True, name


def test_secrets_are_files_of_the_services_that_need_them(stack: Compose) -> None:
    known = {service: json.dumps(stack.inspect(service)) for service in ALL}
    read = (
        'cd /run/secrets && touch mine; for name in *; do echo "$name" $(tail -n 1 "$name"); done'
    )
    for service, names in SECRETS.items():
        ran = stack.inside(service, "sh", "-c", read)
        assert "Read-only" in ran.stderr
        found = dict(line.split(" ", 1) for line in ran.stdout.splitlines())
        assert set(found) == names
        for value in found.values():
            assert not [each for each in ALL if value in known[each]]


@pytest.mark.parametrize("service", OURS)
def test_a_process_in_a_container_has_no_capabilities(stack: Compose, service: str) -> None:
    status = stack.inside(service, "cat", "/proc/1/status").stdout
    values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert values["Uid"].split() == ["10001"] * 4
    assert int(values["CapEff"], 16) == int(values["CapBnd"], 16) == 0
    assert values["NoNewPrivs"] == "1"
    assert values["Seccomp"] == "2"

    places = ("/etc", "/opt/ocr-tasks", "/usr/local/bin")
    written = stack.inside(service, "touch", *(f"{place}/mine" for place in places))
    assert written.stderr.count("Read-only") == len(places)
    programs = "for name in gcc cc pip uv npm apt-key; do command -v $name; done"
    assert stack.inside(service, "sh", "-c", programs).stdout == ""


def test_another_container_in_the_network_of_redis_gets_no_access(stack: Compose) -> None:
    ask = "import redis; redis.Redis('redis').ping()"
    said = stack.inside("worker", "/opt/ocr-tasks/bin/python", "-c", ask)
    assert "AuthenticationError" in said.stderr or "NOAUTH" in said.stderr

    ask = """
import sys, redis
from ocr_tasks.redis import connection
for command in sys.argv[1:]:
    try:
        connection.client().execute_command(*command.split())
    except redis.exceptions.NoPermissionError:
        print(command)
"""
    commands = ["config get requirepass", "flushall", "keys *", "shutdown", "acl list"]
    said = stack.inside("worker", "/opt/ocr-tasks/bin/python", "-c", ask, *commands)
    assert said.stdout.splitlines() == commands, said.stderr


def test_a_program_in_a_container_uploads_its_scans_to_the_web_server_by_its_name(
    stack: Compose,
) -> None:
    send = (
        "import sys, httpx; answer = httpx.post("
        "'http://web:8000/documentintelligence/documentModels/prebuilt-read:analyze"
        "?api-version=2024-11-30', content=sys.stdin.buffer.read(), "
        "headers={'Content-Type': 'application/octet-stream'}); "
        "print(answer.status_code, answer.headers['Operation-Location'])"
    )
    command = ["docker", "run", "--rm", "--interactive", "--network", f"{stack.project}_edge"]
    command += ["--entrypoint", "/opt/ocr-tasks/bin/python", "ocr-tasks:latest", "-c", send]
    ran = subprocess.run(command, input=SCAN.read_bytes(), capture_output=True)

    status, _, place = ran.stdout.decode().partition(" ")
    assert status == "202", ran.stderr
    assert place.startswith("http://web:8000/documentintelligence/")
    result = f"{stack.url}/{place.split('/', 3)[3].strip()}"
    done = wait_until(
        lambda: (found := httpx.get(result).json())["status"] == "succeeded" and found, 90
    )
    assert "garden" in done["analyzeResult"]["content"]


# Normal use


def test_a_scan_is_processed_by_both_workers_and_survives_the_death_of_one(
    stack: Compose, http: httpx.Client
) -> None:
    job = submit(http, ("long.pdf", long_scan(2)), languages="eng").json()
    seen: list[float] = []
    hosts = {container[:12] for container in stack.containers("worker")}

    def read_by() -> set[str | None]:
        now: dict[str, Any] = http.get(f"/v1/jobs/{job['id']}").json()
        assert now["state"] in ("queued", "running"), now
        seen.append(now["progress"]["percent"])
        rows = http.get(f"/v1/jobs/{job['id']}/pages").json()["pages"]
        return {row["worker"] for row in rows} - {None}

    wait_until(lambda: read_by() == hosts, 240)
    assert len(hosts) == 2
    assert seen == sorted(seen)
    assert len(set(seen)) > 1

    docker("kill", stack.containers("worker")[0])

    done = wait_for_state(http, job["id"], "succeeded")
    assert done["progress"]["pages_done"] == 12
    assert not done["failed_pages"]
    assert "stooping down so as" in text_of(http.get(f"/v1/jobs/{job['id']}/pdf").content)


def test_webhooks_are_sent_by_the_webhook_sender(stack: Compose, http: httpx.Client) -> None:
    with receiving(gateway(f"{stack.project}_outside")) as receiver:
        job = submit(http, SCAN, callback_url=receiver.url).json()
        wait_until(lambda: receiver.got, 120)
        assert json.loads(receiver.got[0][1])["data"]["id"] == job["id"]


def test_a_worker_can_connect_to_no_other_host(stack: Compose) -> None:
    network = f"{stack.project}_outside"
    serve = ("--entrypoint", "python3", "ocr-tasks:latest", "-m", "http.server", "8080")
    somebody = docker("run", "--detach", "--rm", "--network", network, *serve).strip()
    try:
        found = json.loads(docker("inspect", somebody))[0]
        address = (found["NetworkSettings"]["Networks"][network]["IPAddress"], 8080)
        connect = f"import socket; socket.create_connection({address!r}, 3)"
        wait_until(lambda: stack.inside("courier", "python3", "-c", connect).returncode == 0)
        assert "rror" in stack.inside("worker", "python3", "-c", connect).stderr
    finally:
        docker("rm", "--force", somebody)


def test_flower_shows_jobs_only_with_the_password(
    stack: Compose, http: httpx.Client, browser: Browser, tmp_path: Path
) -> None:
    job = http.get("/v1/jobs").json()["jobs"][0]
    auth = ("ocr", stack.secret("flower", "ocr_flower_password"))
    assert httpx.get(f"{stack.flower_url}/tasks").status_code == 401
    assert httpx.get(f"{stack.flower_url}/tasks", auth=("ocr", "wrong")).status_code == 401

    def shown() -> bool:
        tasks = httpx.get(f"{stack.flower_url}/api/tasks", auth=auth)
        return tasks.status_code == 200 and job["id"] in tasks.json()

    wait_until(shown)

    context = browser.new_context(http_credentials={"username": auth[0], "password": auth[1]})
    page = context.new_page()
    page.goto(f"{stack.flower_url}/tasks")
    expect(page.get_by_text(job["id"]).first).to_be_visible(timeout=30_000)
    page.screenshot(path=tmp_path / "flower.png", full_page=True)
    page.goto(f"{stack.flower_url}/workers")
    for container in stack.containers("worker"):
        expect(page.get_by_text(container[:12]).first).to_be_visible(timeout=30_000)
    context.close()


def test_the_page_shows_a_job(stack: Compose, http: httpx.Client, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(stack.url)
    expect(page.get_by_text("huckleberry-finn-p22.pdf").first).to_be_visible(timeout=30_000)
    context.close()


# Failures


def test_jobs_survive_a_restart_of_redis(stack: Compose, http: httpx.Client) -> None:
    job = submit(http, ("six.pdf", long_scan(1)), languages="eng").json()
    waiting = submit(http, SCAN).json()
    wait_until(lambda: reading(http, job["id"]), 120)

    stack.run("restart", "redis")

    for one in (job, waiting):
        assert not wait_for_state(http, one["id"], "succeeded")["failed_pages"]
    # It would report an error if it could not read its own file again in full.
    assert "CRITICAL" not in stack.run("logs", "redis").stdout


def test_workers_can_be_added_and_removed(stack: Compose) -> None:
    wait_until(lambda: stack.ready(workers=1), 60)  # the other one was killed
    stack.up(worker=3)
    wait_until(lambda: stack.ready(workers=3), 60)

    stack.up(worker=1)
    wait_until(lambda: stack.ready(workers=1), 60)


def test_all_health_checks_succeed(stack: Compose) -> None:
    def health() -> set[str]:
        ids = stack.containers()
        return set(docker("inspect", "--format", "{{.State.Health.Status}}", *ids).split())

    wait_until(lambda: health() == {"healthy"}, 60)


def test_a_worker_that_hangs_is_reported_as_unhealthy(stack: Compose) -> None:
    """Its main process is suspended, like in a deadlock, and stops updating the file."""
    stack.inside("worker", "sh", "-c", "touch -d '-5 minutes' /tmp/alive; kill -STOP 7 8")
    try:
        stack.inside("worker", "touch", "-d", "-5 minutes", "/tmp/alive")
        assert stack.inside("worker", "healthy").returncode == 1
    finally:
        stack.inside("worker", "sh", "-c", "kill -CONT 7 8")
    wait_until(lambda: stack.inside("worker", "healthy").returncode == 0, 30)
