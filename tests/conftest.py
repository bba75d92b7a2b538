"""Real servers for the tests: Redis alone, or the whole stack as a user starts it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import httpx
import pytest
import redis

if TYPE_CHECKING:
    from tests.parts import RedisServer

DATA = Path(__file__).parent / "data"

Result = TypeVar("Result")

#: The pages of multipage.pdf without the one of 81 megapixels, which takes longer than all others;
#: the fourth has a text layer.
SIX_PAGES = DATA / "six-pages.pdf"

#: These need Docker and an image that has been built: `make test-compose`.
collect_ignore = [] if "TEST_COMPOSE" in os.environ else ["compose"]


def pytest_collection_finish() -> None:
    """Excludes the collected tests from garbage collection.

    Thousands of tests, and all modules, stay in memory; scanning them took most of the time of a
    test that creates many objects.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Makes `--dist loadgroup` run files of the same group in one process.

    They share its fixtures. A file without a group is its own group, like with `--dist loadfile`.
    (pytest-xdist 3.8 ignores groups with pytest 9.2, whose node IDs cannot be changed.)
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group_of(config.rootpath / nodeid.partition("::")[0])

    return ByGroup(config, log)


@cache
def _group_of(file: Path) -> str:
    """Returns the group that a file names, without importing the file."""
    named = re.search(r'mark\.xdist_group\("(\w+)"\)', file.read_text())
    return named[1] if named else str(file)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the time per folder at the end of a long run."""
    seconds: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds["/".join(report.nodeid.split("::")[0].split("/")[:2])] += report.duration
    if seconds.total() < 120:
        return
    terminalreporter.section("seconds by part")
    for part, spent in seconds.most_common(12):
        share = spent / seconds.total()
        terminalreporter.write_line(f"{spent:7.0f}  {share:4.0%}  {part}")


def free_port() -> int:
    """Returns a port on which no process listens.

    It is below the ports of outgoing connections (ip_local_port_range begins at 32768). No
    connection can therefore use it before the server starts, or while it is restarted. It is above
    the ports that browsers block (https://fetch.spec.whatwg.org/#port-blocking), e.g. 10080.
    """
    while True:
        port = random.randrange(11_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def matching(folder: Path, pattern: str) -> list[Path]:
    """Returns `folder.glob(pattern)`, also while a service deletes folders in it.

    Before Python 3.13, `glob` raises FileNotFoundError then.
    """
    while True:
        with contextlib.suppress(FileNotFoundError):
            return list(folder.glob(pattern))


def wait_until(question: Callable[[], Any], seconds: float = 120) -> Any:
    """Calls the function until its result is true, and returns it; fails after a timeout."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = question()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} seconds: {question}")


def run_async(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Returns the result of a coroutine.

    It runs in a thread, because the browser's loop blocks this one.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


# The whole stack


@dataclass
class Stack:
    """A running `ocr-tasks up`."""

    #: The command that is run.
    program: ClassVar[str] = "up"

    data_dir: Path
    port: int
    log: Path
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    #: The folder with the code that is run; None: the current one.
    code: Path | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("OCR_")}
        return {
            **clean,
            "OCR_DATA_DIR": str(self.data_dir),
            "OCR_PORT": str(self.port),
            **self.settings,
        }

    def start(self) -> None:
        command = [sys.executable, "-m", "ocr_tasks.cli", self.program]
        with self.log.open("ab") as words:
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=words, stderr=words, cwd=self.code
            )
        wait_until(self.ready, 180)  # many may start at once if several tests run

    def ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(httpx.TransportError), self.client() as http:
            return http.get("/readyz").status_code == 200
        return False

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def client(self, **more: Any) -> httpx.Client:
        # There is no TLS here, and loading the CA certificates takes 20 ms for each client.
        return httpx.Client(base_url=self.url, timeout=90, verify=False, **more)


@contextlib.contextmanager
def running_stack(folder: Path, **settings: str) -> Iterator[Stack]:
    """Runs a stack for one test; settings are `OCR_…` variables.

    It has one process of the web server, because each takes a second to start.
    """
    settings = {"OCR_WEB_PROCESSES": "1"} | settings
    stack = Stack(folder / "data", free_port(), folder / "log", settings)
    try:
        stack.start()
        yield stack
    finally:
        if stack.process and stack.process.poll() is None:
            stack.stop()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack that most acceptance tests share; they must not break it.

    It has the default settings, and faults of the engine on request (`tests/plugins/faults.py`).
    """
    with running_stack(
        tmp_path_factory.mktemp("stack"),
        OCR_MAX_UPLOAD_BYTES=str(40 * 1024 * 1024),
        OCR_PLUGINS="tests.plugins.faults",
        OCR_WEB_PROCESSES="2",
    ) as running:
        yield running


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A worker of two processes with short leases, and faults of the engine on request.

    Tests kill its worker and its Redis, which are restarted.
    """
    with running_stack(
        tmp_path_factory.mktemp("faulty"),
        OCR_PLUGINS="tests.plugins.faults",
        OCR_LEASE_SECONDS="5",
        OCR_WORKER_PROCESSES="2",
    ) as running:
        yield running


@pytest.fixture(scope="session")
def redis_of_single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The Redis of `single`, which tests can stop and start."""
    from tests.parts import redis_process  # it imports this module

    with redis_process(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def single(
    redis_of_single: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A worker of one process with short turns, and a web server of four threads.

    Two of the threads may wait. It does not wait for devices, and has faults of the engine on
    request.
    """
    with running_stack(
        tmp_path_factory.mktemp("single"),
        OCR_REDIS_URL=redis_of_single.url,
        OCR_PLUGINS="tests.plugins.faults",
        OCR_SWARM_TAKE_SECONDS="1",
        OCR_TURN_SECONDS="1",
        OCR_WEB_THREADS="4",
        OCR_WORKER_PROCESSES="1",
    ) as running:
        yield running


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


@pytest.fixture
def hangup_is_default() -> Iterator[None]:
    """Lets programs that a test starts receive SIGHUP, which the tests ignore under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def submit(
    client: httpx.Client, *files: Path | tuple[str, bytes], **options: Any
) -> httpx.Response:
    """Uploads files, given as paths or as names with contents."""
    parts = [
        ("file", (file.name, file.read_bytes()) if isinstance(file, Path) else file)
        for file in files
    ]
    return client.post("/v1/jobs", data=options, files=parts)


def wait_for_end(client: httpx.Client, job: dict[str, Any], seconds: float = 120) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        # Polling twenty times a second would slow down the job.
        current = client.get(f"/v1/jobs/{job['id']}", params={"wait": 2}).json()
        return current if current["state"] in ("succeeded", "failed", "cancelled") else None

    return wait_until(ended, seconds)


# Redis alone, used by this process


#: The permissions of the Redis user of the service (`docs/how-to/operate.md`).
RIGHTS = "+@all -@admin -@dangerous +info"
ADMIN = "admin"


def admin_of(redis_server: str) -> redis.Redis:
    """Returns a client with all permissions, e.g. to empty Redis and to change its settings."""
    return redis.Redis.from_url(redis_server, username=ADMIN, password="", decode_responses=True)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Returns the URL of a real Redis that only `admin_of` can administer.

    At the end it must not have refused any command, which shows that the permissions are
    sufficient.
    """
    folder = tmp_path_factory.mktemp("redis")
    path = folder / "redis.sock"
    (folder / "users.acl").write_text(
        f"user default on nopass ~* &* {RIGHTS}\nuser {ADMIN} on nopass ~* &* +@all\n"
    )
    program = shutil.which("redis-server")
    assert program, "redis-server is not installed; scripts/setup installs it"
    server = subprocess.Popen(
        [
            *(program, "--port", "0", "--unixsocket", path, "--dir", folder, "--save", ""),
            *("--aclfile", "users.acl"),
        ],
        stdout=subprocess.DEVNULL,
    )
    wait_until(path.exists)
    yield f"unix://{path}"
    with admin_of(f"unix://{path}") as admin:
        assert admin.acl_log() == []
    server.terminate()
    server.wait()


@pytest.fixture
def service(
    redis_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[redis.Redis]:
    """Uses an empty Redis and an empty data folder; returns an administrator's client."""
    from ocr_tasks import settings
    from ocr_tasks.jobs import celery_app
    from ocr_tasks.redis import connection, counters

    monkeypatch.setenv("OCR_REDIS_URL", redis_server)
    monkeypatch.setenv("OCR_DATA_DIR", str(tmp_path / "data"))

    def forget() -> None:
        settings.clear()
        connection.client.cache_clear()
        connection._script.cache_clear()
        counters._requests.clear()
        counters._seconds.clear()
        celery_app.app.pool.force_close_all()

    forget()
    celery_app.app.conf.update(celery_app._configuration(settings.get()))
    celery_app.app._local.__dict__.clear()
    celery_app.app._backend_cache = None
    ours, client = connection.client(), admin_of(redis_server)
    client.flushall()
    before = set(threading.enumerate())
    yield client
    client.close()
    ours.close()
    forget()
    # A thread that is still running would use the next test's Redis, or that of the developer.
    left = [t for t in threading.enumerate() if t not in before and t.is_alive()]
    for thread in left:
        thread.join(5)
    assert not [thread for thread in left if thread.is_alive()]
