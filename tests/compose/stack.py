"""The stack in containers, as a user starts it: docker-compose.yml in a folder of its own."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import free_port, wait_until

ROOT = Path(__file__).parents[2]
FILES = ("docker-compose.yml", "docker-compose.hosts.yml", "docker-compose.worker.yml")


def docker(*words: str) -> str:
    """Returns the standard output of a docker command."""
    ran = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"docker {' '.join(words)}: {ran.stderr}"
    return ran.stdout


def gateway(network: str) -> str:
    """Returns the IP address of this machine in a Docker network."""
    found = json.loads(docker("network", "inspect", network))[0]["IPAM"]["Config"][0]
    # Some networks have no declared gateway; then it is the first IP address.
    first = ipaddress.ip_network(found["Subnet"])[1]
    return str(found.get("Gateway", first))


@dataclass
class Compose:
    """A compose project in a folder. Its secrets are in volumes, unless make_env() is called."""

    folder: Path
    project: str
    files: tuple[str, ...] = FILES[:1]
    port: int = field(default_factory=free_port)
    flower_port: int = field(default_factory=free_port)
    #: Environment variables of the shell that runs Compose.
    shell: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        for name in FILES:
            shutil.copy(ROOT / name, self.folder)
        self.shell |= {
            "OCR_PUBLISHED_PORT": str(self.port),
            "FLOWER_PUBLISHED_PORT": str(self.flower_port),
        }

    def make_env(self) -> None:
        """Creates .env and secrets/."""
        subprocess.run([ROOT / "scripts" / "make-env", self.folder], check=True)

    def set(self, **variables: str) -> None:
        """Appends to .env; the last value of a name applies."""
        with (self.folder / ".env").open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in variables.items())

    def secret(self, service: str, name: str) -> str:
        """Returns a secret as a running service gets it."""
        read = self.inside(service, "cat", f"/run/secrets/{name}")
        assert read.returncode == 0, read.stderr
        return read.stdout

    def put_secret(self, name: str, value: str) -> None:
        """Writes a file in secrets/, before anything is started."""
        file = self.folder / "secrets" / name
        file.parent.mkdir(mode=0o700, exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_text(value)
        file.chmod(0o444)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def flower_url(self) -> str:
        return f"http://127.0.0.1:{self.flower_port}"

    def run(
        self, *words: str, check: bool = True, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command of docker compose."""
        files = [word for name in self.files for word in ("--file", name)]
        command = ["docker", "compose", "--project-name", self.project, *files, *words]
        # Variables of the shell take precedence over .env; only those of the test are passed.
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("OCR_", "COMPOSE_"))}
        ran = subprocess.run(
            command,
            cwd=self.folder,
            env=clean | self.shell,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or ran.returncode == 0, f"{' '.join(command)}: {ran.stderr}"
        return ran

    def up(self, *services: str, **scale: int) -> None:
        scales = [word for name, count in scale.items() for word in ("--scale", f"{name}={count}")]
        self.run("up", "--detach", "--no-build", *scales, *services)

    def down(self, *options: str) -> None:
        self.run("down", *options)

    def containers(self, service: str = "") -> list[str]:
        """Returns the IDs of running containers. `docker compose ps` takes six times as long."""
        label = "label=com.docker.compose"
        filters = [f"{label}.project={self.project}", f"{label}.oneoff=False"]
        if service:
            filters.append(f"{label}.service={service}")
        words = [word for each in filters for word in ("--filter", each)]
        return docker("ps", "--quiet", "--no-trunc", *words).split()

    def inspect(self, service: str) -> dict[str, Any]:
        """Returns Docker's description of the first container of a service."""
        found: list[dict[str, Any]] = json.loads(docker("inspect", self.containers(service)[0]))
        return found[0]

    def inside(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in the first container of a service."""
        words = ["docker", "exec", self.containers(service)[0], *command]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    def ready(self, workers: int = 1) -> bool:
        """Returns whether the API responds, and this many workers are known."""
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(f"{self.url}/readyz")
            return answer.status_code == 200 and self.workers() == workers
        return False

    def workers(self) -> int:
        """Returns the number of live workers."""
        page = httpx.get(f"{self.url}/metrics").text
        line = next(
            row for row in page.splitlines() if row.startswith('ocr_workers{kind="documents"}')
        )
        return int(float(line.split()[1]))


@contextlib.contextmanager
def gone_afterwards(*projects: Compose) -> Iterator[None]:
    """Removes projects with all their data at the end, and prints their logs.

    They are also removed at the beginning, because an interrupted run may have left them.
    """
    for project in projects:
        project.run("down", "--volumes", "--timeout", "5", check=False)
    try:
        yield
    finally:
        for project in projects:
            print(project.run("logs", "--tail", "200", check=False).stdout)
            project.run("down", "--volumes", "--timeout", "5", check=False)


def wait_for_state(client: httpx.Client, job_id: str, state: str, seconds: float = 240) -> Any:
    """Waits until the job has this state, and returns it; errors of the server are ignored."""

    def asked() -> Any:
        with contextlib.suppress(httpx.TransportError):
            answer = client.get(f"/v1/jobs/{job_id}")
            if answer.status_code == 200:
                job = answer.json()
                assert job["state"] in ("queued", "running", state), job
                return job if job["state"] == state else None
        return None

    return wait_until(asked, seconds)
