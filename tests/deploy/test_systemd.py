"""The units of `deploy/systemd`: checked by systemd, and run by a systemd of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from ocr_tasks import cli, extensions, supervisor
from ocr_tasks.sandbox import landlock
from tests import documents
from tests.conftest import DATA, free_port, submit, wait_for_end, wait_until

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/systemd"
ALL = sorted(path.name for path in FOLDER.glob("*.service"))
WATCH = "ocr-tasks-watch@.service"
UNITS = [name for name in ALL if name != WATCH]
WATCHED = "ocr-tasks-watch@office.service"
OURS = [name for name in UNITS if name != "ocr-tasks-redis.service"]

#: The exposure level of each unit according to systemd, from 0 to 10, in tenths.
EXPOSED_AT_MOST = 15


def options(name: str) -> dict[str, list[str]]:
    """Returns the options of a unit, each with all its values."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / name).read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def environment() -> dict[str, str]:
    """Returns the settings of ocr-tasks.env."""
    lines = (FOLDER / "ocr-tasks.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def analyze(*words: str, units: Path) -> subprocess.CompletedProcess[str]:
    assert shutil.which("systemd-analyze"), "scripts/setup --dev installs systemd"
    return subprocess.run(
        ["systemd-analyze", *words],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:", "SYSTEMD_COLORS": "0"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_systemd_verifies_the_units(tmp_path: Path) -> None:
    # The programs must be at the installed paths, because systemd checks that they can be run.
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    for unit in tmp_path.glob("*.service"):
        unit.write_text(unit.read_text().replace("/opt/ocr-tasks/.venv/bin", f"{ROOT}/.venv/bin"))
    units = [str(tmp_path / name) for name in [*ALL, "ocr-tasks.target"]]
    found = analyze("verify", "--man=no", *units, units=tmp_path)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", ALL)
def test_units_are_sandboxed(unit: str) -> None:
    limit = f"--threshold={EXPOSED_AT_MOST}"
    words = ("security", "--offline=true", limit, "--no-pager", str(FOLDER / unit))
    found = analyze(*words, units=FOLDER)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("unit", OURS)
def test_each_unit_runs_a_command_with_the_secrets_that_it_needs(unit: str) -> None:
    found = options(unit)
    role = unit.removeprefix("ocr-tasks-").removesuffix(".service")
    assert found["ExecStart"] == [f"/opt/ocr-tasks/.venv/bin/ocr-tasks {role}"]
    assert role in {title.partition(":")[0] for title in cli.describe()}
    secrets = {
        "web": ["ocr_redis_password", "ocr_webhook_secrets"],
        "worker": ["ocr_redis_password"],
        "courier": ["ocr_redis_password", "ocr_webhook_secrets"],
        "flower": ["ocr_redis_password", "ocr_flower_password"],
    }
    wanted = [f"{name}:/etc/ocr-tasks/secrets/{name}" for name in secrets[role]]
    assert found["LoadCredential"] == wanted
    assert found["User"] == found["Group"] == ["ocr-tasks"]


def test_the_watch_unit_runs_a_command_that_exists() -> None:
    found = options(WATCH)
    program, *words = found["ExecStart"][0].removesuffix("$WATCH_OPTIONS").split()
    assert program == "/opt/ocr-tasks/.venv/bin/ocr-tasks"
    asked = cli._parser({"watch"}).parse_args(words)
    places = (asked.folder, asked.output, asked.archive)
    assert all(str(place).startswith(found["ReadWritePaths"][0]) for place in places)


def test_settings_in_the_units_exist() -> None:
    text = "\n".join(path.read_text() for path in FOLDER.rglob("*") if path.is_file())
    groups = extensions.settings_groups()
    known = {f"OCR_{name.upper()}" for group in groups for name in group.model_fields}
    known |= {"OCR_URL", "OCR_TOKEN"}  # a setting of the client
    assert set(re.findall(r"\bOCR_[A-Z0-9_]+", text)) <= known
    values = {name.removeprefix("OCR_").lower(): value for name, value in environment().items()}
    for group in groups:
        group(**values)


def test_a_stopping_worker_has_time_to_release_its_jobs() -> None:
    takes = int(environment()["OCR_STOP_SECONDS"]) + supervisor.STOP_GRACE
    found = options("ocr-tasks-worker.service")
    assert int(found["TimeoutStopSec"][0]) > takes
    assert found["KillMode"] == ["mixed"]
    # One process without memory must not end the others.
    assert found["OOMPolicy"] == ["continue"]


def test_a_worker_can_only_connect_to_this_host() -> None:
    found = options("ocr-tasks-worker.service")
    assert (found["IPAddressDeny"], found["IPAddressAllow"]) == (["any"], ["localhost"])


def test_invalid_settings_are_not_retried() -> None:
    found = options("ocr-tasks-.service.d/10-shut-in.conf")
    assert found["RestartPreventExitStatus"] == [str(cli.USAGE)]


# Run by systemd


@dataclass
class Host:
    """A systemd with only the units of this project, in its own namespaces."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int

    def systemctl(self, *words: str) -> str:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        ran = subprocess.run(
            ["nsenter", "--mount", "--pid", "--target", children.split()[0], "systemctl", *words],
            capture_output=True,
            text=True,
            timeout=120,
        )
        return (ran.stdout + ran.stderr).strip()

    def state(self, unit: str) -> str:
        """Returns `active`, `inactive`, or `failed` if the unit ended with an error."""
        return self.systemctl("show", "--value", "--property=ActiveState", unit)

    def log(self) -> str:
        logs = sorted(self.folder.glob("log-*"))
        return "\n".join(f"{path.name}:\n{path.read_text()}" for path in logs)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    if os.getuid() != 0:
        pytest.skip("running units needs root")
    assert Path("/lib/systemd/systemd").exists(), "scripts/setup --dev installs systemd"
    port, redis_port = free_port(), str(free_port())
    own = f"OCR_PORT={port}\nOCR_WEB_PROCESSES=1\nOCR_FLOWER_PORT={free_port()}"
    for name, changed in (
        ("ocr-tasks.env", {"OCR_PORT=8000": own}),
        ("redis.conf", {}),
    ):
        text = (FOLDER / name).read_text()
        for old, new in {**changed, "6379": redis_port}.items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
    (tmp_path / "watch-office.env").write_text(
        f"OCR_URL=http://127.0.0.1:{port}\nWATCH_OPTIONS=--settle 0.2 --also text\n"
    )
    _install(tmp_path / "units")
    group = f"ocr-tasks-test-{os.getpid()}"
    with (tmp_path / "log-systemd").open("wb") as log:
        command = [ROOT / "tests/deploy/own-systemd", ROOT, tmp_path, group]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield Host(process, tmp_path, port)
    finally:
        process.kill()  # and with it all its child processes
        process.wait()
        for top in (Path("/sys/fs/cgroup", group), Path("/sys/fs/cgroup/unified", group)):
            wait_until(lambda top=top: _gone(top))


def _gone(group: Path) -> bool:
    """Removes a control group and its children; False: its processes have not ended yet."""
    for folder, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()
    return not group.exists()


def _install(units: Path) -> None:
    """Installs and enables the units, and the few units of a system that they need."""
    shutil.copytree(FOLDER, units)
    for name in ("sysinit", "basic", "shutdown", "umount", "network-online"):
        (units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    wants = units / "ocr-tasks.target.wants"
    wants.mkdir()
    (wants / WATCHED).symlink_to(f"../{WATCH}")
    for unit in ALL:
        if unit != WATCH:
            (wants / unit).symlink_to(f"../{unit}")
        # The scripts of this environment contain its path, and are at another path there.
        text = (units / unit).read_text().replace("/srv/ocr-tasks/", "/opt/watched/")
        (units / unit).write_text(text.replace("bin/ocr-tasks ", "bin/python -m ocr_tasks.cli "))
    python = Path(sys.executable).resolve().parents[1]
    hidden = python.is_relative_to("/root") or python.is_relative_to("/home")
    (units / "ocr-tasks-.service.d/90-test.conf").write_text(
        textwrap.dedent("""\
            [Service]
            WorkingDirectory=/opt/ocr-tasks
            StandardOutput=append:/opt/test/log-%N
            StandardError=inherit
        """)
        + (f"ProtectHome=tmpfs\nBindReadOnlyPaths={python}\n" if hidden else "")
    )


@pytest.mark.acceptance
def test_the_units_run_process_a_document_and_stop(host: Host) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{host.port}", timeout=60) as http:

        def ready() -> bool:
            assert host.process.poll() is None, host.log()
            try:
                return http.get("/readyz").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(ready)
        job = submit(http, DATA / "huckleberry-finn-p22.pdf").json()
        assert wait_for_end(http, job)["state"] == "succeeded"
        assert "stooping" in http.get(f"/v1/jobs/{job['id']}/text").text
    office = host.folder / "watched" / "office"
    (office / "in" / "scan.pdf").write_bytes(documents.scan("garden"))
    wait_until((office / "originals" / "scan.pdf").exists)
    assert "garden" in (office / "out" / "scan.txt").read_text()
    for unit in [*UNITS, WATCHED]:
        assert host.state(unit) == "active", host.log()
    host.systemctl("stop", "ocr-tasks.target")
    wait_until(lambda: all(host.state(unit) == "inactive" for unit in [*UNITS, WATCHED]))
    # The sandbox uses all features of Landlock that the kernel has, as it does outside.
    assert not landlock.landlock() or "Landlock" not in host.log()
