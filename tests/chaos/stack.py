"""Redis, workers and a web server, in separate processes that may be killed at any moment."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import redis

from tests.conftest import free_port, wait_until

#: An environment variable of all started processes, which identifies those that are left.
MARK = "OCR_CHAOS"


@dataclass
class Server:
    """One of the processes; it is started again when it has ended."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes]


@dataclass
class Stack:
    """The running processes.

    `folder` is for Redis and logs, `data` is shared by workers and web server.
    """

    folder: Path
    data: Path
    workers: int = 2
    processes: int = 2
    lease_seconds: int = 4
    failpoints: str = ""
    port: int = field(default_factory=free_port)
    servers: dict[str, Server] = field(default_factory=dict)
    #: Workers that are stopping.
    leaving: list[subprocess.Popen[bytes]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    _redis: redis.Redis | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def mark(self) -> str:
        return str(self.folder)

    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OCR_")}
        return clean | {
            MARK: self.mark,
            "OCR_DATA_DIR": str(self.data),
            "OCR_REDIS_URL": f"unix://{self.folder / 'redis.sock'}",
            "OCR_PORT": str(self.port),
            "OCR_WEB_PROCESSES": "1",
            "OCR_WORKER_PROCESSES": str(self.processes),
            "OCR_LEASE_SECONDS": str(self.lease_seconds),
            # No document loses this many workers by chance, even on a slow machine.
            "OCR_LOSSES_MAX": "12",
            "OCR_STOP_SECONDS": "4",
            "OCR_RESERVE_BYTES": "1000000",
            "OCR_PLUGINS": "tests.plugins.faults",
            "OCR_FAILPOINTS": self.failpoints,
        }

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program
        command = [program, "--port", "0", "--unixsocket", str(self.folder / "redis.sock")]
        command += ["--dir", str(self.folder), "--appendonly", "yes", "--save", ""]
        self.launch("redis", command)
        ours = [sys.executable, "-m", "ocr_tasks.cli"]
        for number in range(self.workers):
            self.launch(f"worker {number}", [*ours, "worker"])
        self.launch("web", [*ours, "web"])
        wait_until(self.ready)

    def launch(self, name: str, command: list[str]) -> None:
        """Starts a server, and replaces the one with that name."""
        with self.lock, self.log.open("ab") as words:
            process = subprocess.Popen(
                command,
                env=self.environment(),
                stdout=words,
                stderr=words,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            self.servers[name] = Server(name, command, process)

    def revive(self) -> None:
        """Restarts processes that have ended."""
        with self.lock:
            for server in list(self.servers.values()):
                if server.process.poll() is not None:
                    self.launch(server.name, server.command)
            self.leaving = [process for process in self.leaving if process.poll() is None]

    def ready(self) -> bool:
        self.revive()
        return self.answers("/readyz")

    def answers(self, address: str = "/healthz") -> bool:
        """Returns whether the web server responds with 200."""
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}{address}", timeout=10, verify=False).status_code == 200
        return False

    def restart_calmly(self) -> None:
        """Restarts everything without failpoints."""
        self.failpoints = ""
        for name in [*self.worker_names(), "web"]:
            self.dismiss(name)
        wait_until(lambda: self.revive() or not self.leaving, 60)
        wait_until(self.ready)

    def dismiss(self, name: str) -> None:
        """Stops a server, and starts another one in its place."""
        with self.lock:
            server = self.servers[name]
            server.process.terminate()
            if name == "web":
                server.process.wait(30)
            else:
                self.leaving.append(server.process)
            self.launch(name, server.command)

    def worker_names(self) -> list[str]:
        return [name for name in self.servers if name.startswith("worker")]

    def children(self, name: str) -> list[psutil.Process]:
        """Returns the processes of a worker's pool."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.servers[name].process.pid).children()
        return []

    def redis(self) -> redis.Redis:
        if self._redis is None:
            address = f"unix://{self.folder / 'redis.sock'}"
            self._redis = redis.Redis.from_url(address, decode_responses=True)
        return self._redis

    def ours(self) -> list[psutil.Process]:
        """Returns all processes that were started here and are still running."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark:
                    found.append(process)
        return found

    def stop(self) -> list[str]:
        """Stops everything in order; returns the names of processes that are left."""
        for name in ["web", *self.worker_names()]:
            self.servers[name].process.terminate()
        for server in self.servers.values():
            if server.name != "redis":
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.process.wait(30)
        for process in self.leaving:
            process.wait(30)
        left = [
            f"{process.name()} {process.pid}"
            for process in self.ours()
            if process.pid != self.servers["redis"].process.pid
        ]
        for process in self.ours():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.redis().close()
        kill(self.servers["redis"].process)  # its process title overwrites its environment
        self.servers["redis"].process.wait(10)
        return left


def kill(process: psutil.Process | subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        process.send_signal(signal.SIGKILL)


def pause(process: psutil.Process, seconds: float) -> None:
    """Suspends a process and its child processes for this many seconds."""
    with contextlib.suppress(psutil.NoSuchProcess):
        still = [process, *process.children(recursive=True)]
        for one in still:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.suspend()
        time.sleep(seconds)
        for one in still:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.resume()
