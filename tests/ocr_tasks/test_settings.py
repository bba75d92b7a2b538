"""Sources of settings, and errors of invalid ones."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocr_tasks import errors, settings


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("OCR_")]:
        monkeypatch.delenv(name)
    settings.clear()
    yield
    settings.clear()


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OCR_SECRETS_DIR", str(tmp_path))
    return tmp_path


def test_a_secret_can_be_in_a_file(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (secrets / "ocr_redis_password").write_text("p@ss/word\n")
    monkeypatch.setenv("OCR_REDIS_URL", "rediss://ocr@redis.example:6380/2?ssl_cert_reqs=required")

    config = settings.get()

    assert config.redis_password == "p@ss/word"
    assert config.redis == (
        "rediss://ocr:p%40ss%2Fword@redis.example:6380/2?ssl_cert_reqs=required"
    )
    assert config.celery_redis == config.redis
    assert config.redis_port == 6380
    assert "p@ss" not in repr(config)


def test_a_variable_precedes_a_file(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (secrets / "ocr_port").write_text("9000")
    assert settings.get().port == 9000

    settings.clear()
    monkeypatch.setenv("OCR_PORT", "9001")
    assert settings.get().port == 9001


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://redis", "redis://:secret@redis"),
        ("redis://ocr@redis:6379/0", "redis://ocr:secret@redis:6379/0"),
        ("redis://ocr:old@[::1]:6379", "redis://ocr:secret@[::1]:6379"),
    ],
)
def test_the_password_becomes_part_of_the_redis_url(
    url: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_REDIS_URL", url)
    monkeypatch.setenv("OCR_REDIS_PASSWORD", "secret")
    assert settings.get().redis == address


@pytest.mark.parametrize(
    ("data", "temporary", "start"),
    [
        ("/data", "/var/tmp", "/data/redis/redis.sock"),
        ("/data/" + "x" * 100, "/var/tmp", "/var/tmp/ocr-tasks-"),
        ("/data/" + "x" * 100, "/var/tmp/" + "y" * 60, "/tmp/ocr-tasks-"),
    ],
    ids=["short", "long data folder", "both long"],
)
def test_the_path_of_the_embedded_redis_is_short_enough(
    data: str, temporary: str, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise Redis exits immediately: a socket's path has at most 107 bytes."""
    monkeypatch.setenv("OCR_DATA_DIR", data)
    monkeypatch.setattr(tempfile, "tempdir", temporary)

    path = settings.get().redis_socket

    assert str(path).startswith(start)
    assert len(os.fsencode(path)) <= 107


@pytest.mark.parametrize("url", ["", "unix:///run/redis.sock"])
def test_a_password_without_a_matching_redis_url_is_refused(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_REDIS_URL", url)
    monkeypatch.setenv("OCR_REDIS_PASSWORD", "secret")
    with pytest.raises(errors.SettingsError, match="OCR_REDIS_PASSWORD requires") as refused:
        settings.get()
    assert "secret" not in str(refused.value)


def test_a_missing_folder_of_secrets_is_reported(
    secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_SECRETS_DIR", str(secrets / "none"))
    with pytest.raises(errors.SettingsError, match=r"OCR_SECRETS_DIR: .*none is not a folder"):
        settings.get()


@pytest.mark.parametrize(
    ("listens", "published", "needed"),
    [
        ("127.0.0.1", "", False),
        ("0.0.0.0", "", True),
        ("0.0.0.0", "127.0.0.1", False),
        ("0.0.0.0", "0.0.0.0", True),
        ("127.0.0.1", "192.0.2.7", True),
    ],
)
def test_the_published_ip_address_of_a_container_decides_whether_tokens_are_needed(
    listens: str, published: str, needed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_HOST", listens)
    monkeypatch.setenv("OCR_PUBLISHED_HOST", published)
    assert settings.get().needs_tokens is needed


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("max 100000", None), ("150000 100000", 1.5), ("20000 100000", 0.2), ("", None)],
)
def test_the_cpu_quota_of_a_container_limits_its_cores(
    tmp_path: Path, limit: str, cores: float | None
) -> None:
    for name, text in (
        ("proc/self/cgroup", "9:cpu:/elsewhere\n0::/system.slice/ocr.service\n"),
        ("sys/fs/cgroup/system.slice/ocr.service/cpu.max", f"{limit}\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    assert settings._core_seconds(tmp_path) == (cores or math.inf)
    assert settings._core_seconds(tmp_path / "nowhere") == math.inf
    assert 1 <= settings.cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CORS_ORIGINS", "https://Scans.Example"),  # browsers send lower case
        ("DIALECTS", "Azure"),
    ],
)
def test_only_host_names_are_case_insensitive(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_HOSTS", "Scans.Example")
    assert settings.get().hosts == ("scans.example",)
    settings.clear()
    monkeypatch.setenv(f"OCR_{name}", value)
    with pytest.raises(errors.SettingsError, match=f"OCR_{name}"):
        settings.get()
