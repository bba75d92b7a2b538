"""`docker compose up` in a fresh clone, without any preparation. The order of the tests matters."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.acceptance.test_main_job import text_of
from tests.compose.stack import ROOT, Compose, docker, gone_afterwards, wait_for_state
from tests.conftest import DATA, submit, wait_until

SCAN = DATA / "huckleberry-finn-p22.pdf"


def clone(folder: Path) -> None:
    """Copies the files that git tracks, as they are in this working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    folder = tmp_path_factory.mktemp("fresh") / "ocr-tasks"
    clone(folder)
    # A tag of its own, because no image may exist yet.
    made = Compose(folder, "ocr-tasks-fresh", shell={"OCR_VERSION": "fresh"})
    with gone_afterwards(made):
        subprocess.run(["docker", "image", "rm", "ocr-tasks:fresh"], capture_output=True)
        try:
            made.run("up", "--detach")
            wait_until(made.ready, 120)
            yield made
        finally:
            made.down("--volumes", "--timeout", "5", "--remove-orphans")
            docker("image", "rm", "ocr-tasks:fresh")


def in_volumes(stack: Compose, command: str = "secrets 2>&1 | grep -v ^Flower") -> dict[str, str]:
    """Runs a command with all volumes that contain secrets.

    Returns the checksums of the files afterwards.
    """
    words = ("run", "--rm", "--no-TTY", "--entrypoint", "sh", "secrets", "-c")
    printed = stack.run(*words, f"{command}; cd /secrets && sha256sum */*").stdout
    return {name: checksum for checksum, name in (line.split() for line in printed.splitlines())}


def test_nothing_else_is_needed_to_process_a_scan(stack: Compose) -> None:
    assert not (stack.folder / ".env").exists()
    assert not (stack.folder / "secrets").exists()
    with httpx.Client(base_url=stack.url, timeout=90) as client:
        job = submit(client, SCAN).json()
        wait_for_state(client, job["id"], "succeeded")
        assert "stooping" in text_of(client.get(f"/v1/jobs/{job['id']}/pdf").content)
        ready = client.get("/readyz").json()
        assert ready["status"] == "ready"
        assert set(ready["parts"].values()) == {"ok"}
        assert client.get("/ocrd/processor").json() == ["ocrd-ocr-tasks-recognize"]


def test_the_documented_command_prints_the_password_of_flower(stack: Compose) -> None:
    command = "exec flower cat /run/secrets/ocr_flower_password"
    assert f"docker compose {command}\n" in (ROOT / "docs/how-to/containers.md").read_text()
    password = stack.run(*command.split()).stdout

    def status(password: str) -> int:
        return httpx.get(f"{stack.flower_url}/workers", auth=("ocr", password)).status_code

    wait_until(lambda: status(password) == 200)
    assert status("wrong") == 401
    printed = stack.run("logs").stdout
    assert f"docker compose {command}" in printed
    assert password not in printed


def test_a_second_run_changes_no_secret_and_completes_an_incomplete_set(stack: Compose) -> None:
    before = in_volumes(stack, "true")
    assert in_volumes(stack) == before

    lost = "rm -f ocr_redis_password grafana_password ../documents/*; echo x > .redis_acl.part"
    cut_short = "rm -f ocr_webhook_secrets; : > ocr_webhook_secrets"
    after = in_volumes(stack, f"cd /secrets/all; {lost}; {cut_short}; secrets >/dev/null")

    assert set(after) == set(before)
    changed = {name.split("/")[1] for name in after if after[name] != before[name]}
    # Redis's users are derived from its password.
    assert changed == {"ocr_redis_password", "redis_acl", "grafana_password", "ocr_webhook_secrets"}
    empty = hashlib.sha256(b"").hexdigest()
    assert empty not in after.values()


def test_results_survive_down_and_up_also_with_another_password_of_redis(stack: Compose) -> None:
    (job,) = httpx.get(f"{stack.url}/v1/jobs").json()["jobs"]
    pdf = httpx.get(f"{stack.url}/v1/jobs/{job['id']}/pdf").content
    password = stack.secret("flower", "ocr_flower_password")

    stack.down()

    label = f"label=com.docker.compose.project={stack.project}"
    assert docker("ps", "--all", "--quiet", "--filter", label) == ""
    assert docker("network", "ls", "--quiet", "--filter", label) == ""

    stack.run("up", "--detach")
    wait_until(stack.ready, 120)
    assert httpx.get(f"{stack.url}/v1/jobs").json()["jobs"] == [job]
    assert httpx.get(f"{stack.url}/v1/jobs/{job['id']}/pdf").content == pdf
    assert stack.secret("flower", "ocr_flower_password") == password


def test_a_secret_can_be_set_from_standard_input(stack: Compose) -> None:
    words = ("run", "--rm", "--no-TTY", "secrets", "set")
    stack.run(*words, "ocr_metrics_token", stdin="a token")
    unknown = stack.run(*words, "ocr_metric", stdin="x", check=False)
    assert unknown.returncode != 0
    assert "no secret 'ocr_metric'; there are: " in unknown.stderr
    empty = stack.run(*words, "ocr_flower_password", check=False)
    assert empty.returncode != 0
    assert "standard input is empty" in empty.stderr

    after = in_volumes(stack, "true")
    token = hashlib.sha256(b"a token").hexdigest()
    assert after["all/ocr_metrics_token"] == after["prometheus/ocr_metrics_token"] == token
    assert ".set" not in {name.split("/")[1] for name in after}


def test_files_of_make_env_take_precedence_over_the_volumes(stack: Compose) -> None:
    before = in_volumes(stack, "true")
    stack.make_env()
    after = in_volumes(stack)

    for name, checksum in after.items():
        service, _, secret = name.partition("/")
        if service == "all":
            assert checksum == before[name], name
        else:
            file = stack.folder / "secrets" / secret.replace("ocr_token", "swarm_token")
            assert checksum == hashlib.sha256(file.read_bytes()).hexdigest(), name
    words = ("run", "--rm", "--no-TTY", "secrets", "set", "swarm_token")
    assert "OCR_SECRETS is set" in stack.run(*words, check=False).stderr
