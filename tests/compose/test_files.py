"""Properties of every service in the compose files, including those in profiles."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.compose.stack import FILES, Compose


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    stack = Compose(tmp_path_factory.mktemp("files") / "ocr-tasks", "none")
    said = stack.run("--profile", "*", "config", "--format", "json").stdout
    found: dict[str, Any] = json.loads(said)["services"]
    return found


def test_all_services_have_limits_and_restrictions(services: dict[str, Any]) -> None:
    assert set(services) == {
        *("secrets", "redis", "web", "worker", "courier", "flower"),
        *("processors", "device", "prometheus", "grafana", "objects", "room", "bucket"),
    }
    for name, service in services.items():
        assert service["user"].split(":")[0] not in ("", "0", "root"), name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert not service.get("cap_add"), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["init"] is True, name
        assert int(service["mem_limit"]) == int(service["memswap_limit"]) > 0, name
        assert service["pids_limit"] > 0, name
        # Workers may use all cores if WORKER_CPUS is not set.
        assert service.get("cpus", 0) > 0 or name in ("worker", "processors", "device"), name
        assert not any((service["ulimits"]["core"] or {}).values()), name  # {} is its notation of 0
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
        assert service["restart"] in ("unless-stopped", "no"), name
        assert not service.get("privileged"), name
        for port in service.get("ports", []):
            assert port["host_ip"] == "127.0.0.1", name


def test_only_the_webhook_sender_and_published_services_have_a_route_to_the_outside(
    services: dict[str, Any], tmp_path: Path
) -> None:
    out = {
        name
        for name, service in services.items()
        if {"edge", "outside"} & set(service.get("networks") or {})
    }
    assert out == {"web", "flower", "grafana", "courier"}


def test_each_required_variable_is_reported_if_it_is_missing(tmp_path: Path) -> None:
    stack = Compose(tmp_path / "ocr-tasks", "none", FILES[:2])
    assert "REDIS_PUBLISHED_HOST" in stack.run("config", check=False).stderr
    worker = Compose(tmp_path / "worker", "none", FILES[2:])
    missing = {"REDIS_HOST", "SHARE_OPTIONS", "SHARE_DEVICE"}
    while missing:
        said = worker.run("config", check=False)
        assert said.returncode != 0
        (name,) = {name for name in missing if f"{name} is missing" in said.stderr}
        worker.set(**{name: "x"})
        missing.remove(name)
    assert worker.run("config", check=False).returncode == 0


def test_make_env_creates_random_secrets_and_keeps_existing_ones(tmp_path: Path) -> None:
    first, second = (Compose(tmp_path / name, "none") for name in ("first", "second"))

    def made(stack: Compose) -> dict[str, str]:
        stack.make_env()
        files = (stack.folder / "secrets").iterdir()
        return {file.name: file.read_text() for file in (*files, stack.folder / ".env")}

    before = made(first)
    same = {name for name, value in made(second).items() if value == before[name]}
    assert same == {".env", "ocr_metrics_token", "swarm_token"}  # no tokens exist yet
    assert made(first) == before
    assert (first.folder / "secrets").stat().st_mode & 0o777 == 0o700

    (first.folder / "secrets/ocr_redis_password").unlink()
    after = made(first)
    changed = {name for name, value in after.items() if value != before[name]}
    assert changed == {"ocr_redis_password", "redis_acl"}
    assert hashlib.sha256(after["ocr_redis_password"].encode()).hexdigest() in after["redis_acl"]
