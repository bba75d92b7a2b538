"""`docker compose up` in a fresh clone, with nothing run before it. Tests come in this order."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.acceptance.test_main_job import text_of
from tests.compose.stack import ROOT, Compose, docker, gone_afterwards, wait_for_state
from tests.compose.test_stack import SECRETS
from tests.conftest import DATA, submit, wait_until

SCAN = DATA / "huckleberry-finn-p22.pdf"
#: Where the service `secrets` keeps all of them.
ALL = "/secrets/all"


def clone(folder: Path) -> None:
    """Copies the files that git knows, as they are in this working tree."""
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
    # A tag of its own, as there must be no image yet.
    made = Compose(folder, "ocr-tasks-fresh", shell={"OCR_VERSION": "fresh"})
    with gone_afterwards(made):
        subprocess.run(["docker", "image", "rm", "ocr-tasks:fresh"], capture_output=True)
        try:
            made.run("up", "--detach")
            wait_until(made.ready, 120)
            yield made
        finally:
            made.down("--volumes", "--timeout", "5")
            docker("image", "rm", "ocr-tasks:fresh")


def up_again(stack: Compose, *options: str) -> None:
    stack.run("up", "--detach", *options)
    wait_until(stack.ready, 120)


def kept(stack: Compose) -> dict[str, dict[str, str]]:
    """The values of all secrets, by service."""
    return {
        service: {name: stack.secret(service, name) for name in names}
        for service, names in SECRETS.items()
    }


def in_volume(stack: Compose, command: str) -> str:
    """Runs a shell command where the service `secrets` keeps its files."""
    words = (
        "run",
        "--rm",
        "--no-TTY",
        "--entrypoint",
        "sh",
        "secrets",
        "-c",
        f"cd {ALL}; {command}",
    )
    return stack.run(*words).stdout


def test_nothing_else_is_needed_to_read_a_scan(stack: Compose) -> None:
    assert not (stack.folder / ".env").exists()
    assert not (stack.folder / "secrets").exists()
    with httpx.Client(base_url=stack.url, timeout=90) as client:
        job = submit(client, SCAN).json()
        wait_for_state(client, job["id"], "succeeded")
        assert "stooping" in text_of(client.get(f"/v1/jobs/{job['id']}/pdf").content)


def test_the_documented_command_prints_the_password_of_flower(stack: Compose) -> None:
    command = "exec flower cat /run/secrets/ocr_flower_password"
    assert f"docker compose {command}\n" in (ROOT / "docs/how-to/containers.md").read_text()
    password = stack.run(*command.split()).stdout

    def status(password: str) -> int:
        return httpx.get(f"{stack.flower_url}/workers", auth=("ocr", password)).status_code

    wait_until(lambda: status(password) == 200)
    assert status("wrong") == 401
    said = stack.run("logs").stdout
    assert f"docker compose {command}" in said  # and not the password:
    for values in kept(stack).values():
        assert not [name for name, value in values.items() if value.strip() in said]


def test_jobs_and_secrets_outlive_down_and_up(stack: Compose) -> None:
    before = kept(stack)
    jobs = httpx.get(f"{stack.url}/v1/jobs").json()["jobs"]
    assert [job["state"] for job in jobs] == ["succeeded"]

    stack.down()
    up_again(stack)

    assert kept(stack) == before
    assert httpx.get(f"{stack.url}/v1/jobs").json()["jobs"] == jobs


def test_what_a_crash_left_half_written_is_completed(stack: Compose) -> None:
    before = kept(stack)
    stack.down()
    in_volume(stack, "rm -f grafana_password; rm -f ocr_webhook_secrets; : > ocr_webhook_secrets")
    in_volume(stack, "rm -f ocr_redis_password ../documents/* ../redis/*; echo x > .redis_acl.part")

    up_again(stack)  # with another password than the volume of Redis was made with

    after = kept(stack)
    assert in_volume(stack, "cat grafana_password")
    assert after["courier"]["ocr_webhook_secrets"].startswith("whsec_")
    for service in ("web", "flower", "courier"):
        assert after[service]["ocr_redis_password"] != before[service]["ocr_redis_password"]
    assert after["flower"]["ocr_flower_password"] == before["flower"]["ocr_flower_password"]
    assert len(httpx.get(f"{stack.url}/v1/jobs").json()["jobs"]) == 1


def test_a_secret_is_set_from_standard_input(stack: Compose) -> None:
    words = ("run", "--rm", "--no-TTY", "secrets", "set")
    stack.run(*words, "ocr_metrics_token", stdin="a token")
    assert (
        in_volume(stack, "cat ocr_metrics_token ../prometheus/ocr_metrics_token") == "a token" * 2
    )

    unknown = stack.run(*words, "ocr_metric", stdin="x", check=False)
    assert unknown.returncode != 0
    assert "no secret 'ocr_metric'; there are: " in unknown.stderr
    assert stack.run(*words, "swarm_token", check=False).returncode != 0
    assert in_volume(stack, "cat swarm_token") == "none\n"


def test_files_replace_what_is_in_the_volume(stack: Compose) -> None:
    stack.make_env()
    up_again(stack)

    for service, values in kept(stack).items():
        for name, value in values.items():
            assert value == (stack.folder / "secrets" / name).read_text(), (service, name)
    assert len(httpx.get(f"{stack.url}/v1/jobs").json()["jobs"]) == 1
    refused = stack.run("run", "--rm", "--no-TTY", "secrets", "set", "swarm_token", check=False)
    assert "OCR_SECRETS is set" in refused.stderr
