"""`ocr-tasks up`: Redis, worker and web as children of one process, which ends them all.

Children lead sessions of their own, so that a Ctrl-C reaches only the supervisor, which stops them
in order: web first, Redis last. The supervisor adopts orphans (PR_SET_CHILD_SUBREAPER, prctl(2)),
so that at the end it finds and kills whatever is left; should it be killed itself, the kernel tells
the children (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import http.client
import json
import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from ocr_tasks import logs, settings

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)

#: Seconds that a child has to end by itself, beyond what a worker gives its jobs.
STOP_GRACE = 6
RESTART_SECONDS = 2.0

#: Seconds between two looks at the children, and after which it is said what a stack that is not
#: ready waits for.
LOOK_INTERVAL = 0.2
PATIENCE = 15.0


class StartError(Exception):
    """The stack cannot be started; the text says why and what to do."""


@dataclass
class _Child:
    name: str
    command: list[str]
    process: subprocess.Popen[bytes]
    started_at: float


class Supervisor:
    """Starts the stack, keeps it running, ends it."""

    def __init__(self, config: settings.Settings, environment: Mapping[str, str]) -> None:
        """`environment` are the variables that the children get."""
        self._config = config
        self._environment = dict(environment)
        self._children: list[_Child] = []
        self._stopping = False

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The stack runs for the time of the block."""
        logs.set_up()
        with _lock(self._config.data_dir), _signals(self._on_signal) as self._signals:
            _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            try:
                self._start()
                yield
            finally:
                self._stop()

    def watch(self) -> None:
        """Restarts children that end, until a signal says stop; says when the stack is ready."""
        readiness = _Readiness(self._config)
        while not self._stopping:
            for child in self._children:
                if child.process.poll() is not None and not self._stopping:
                    self._restart(child)
            self._reap_orphans()
            readiness.look()
            self._wait(LOOK_INTERVAL)

    def _wait(self, seconds: float) -> None:
        """Waits, or until a signal comes."""
        if select.select([self._signals], [], [], seconds)[0]:
            self._signals.recv(4096)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _start(self) -> None:
        if not self._config.redis_url:
            self._spawn("redis", _redis_command(self._config))
        _wait_for_redis(self._config, lambda: self._alive("redis") and not self._stopping)
        worker = [sys.executable, "-m", "ocr_tasks.cli", "worker"]
        if self._config.processors_share_worker or not self._config.processor_names:
            self._spawn("worker", worker)
        else:
            self._spawn("worker", [*worker, "--processors", ""])
            self._spawn("processors", [*worker, "--processors", self._config.processors])
        self._spawn("web", [sys.executable, "-m", "ocr_tasks.cli", "web"])

    def _spawn(self, name: str, command: list[str]) -> None:
        try:
            process = _popen(command, self._environment)
        except FileNotFoundError as error:
            raise StartError(f"{error.filename} is not installed") from None
        self._children.append(_Child(name, command, process, time.monotonic()))

    def _alive(self, name: str) -> bool:
        return all(child.process.poll() is None for child in self._children if child.name == name)

    def _reap_orphans(self) -> None:
        """Lets go of adopted processes that have ended; our own are left to `poll`."""
        ours = {child.process.pid for child in self._children}
        with contextlib.suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if ended.si_pid in ours:
                    break
                os.waitpid(ended.si_pid, 0)

    def _restart(self, child: _Child) -> None:
        say(f"{child.name} ended with code {child.process.returncode}; starting it again")
        time.sleep(max(0.0, RESTART_SECONDS - (time.monotonic() - child.started_at)))
        child.process = _popen(child.command, self._environment)
        child.started_at = time.monotonic()

    def _stop(self) -> None:
        # Redis last, as the others say good-bye there. The worker's soft stop takes its own
        # seconds; nobody waits longer than these in all.
        for last in (False, True):
            ending = [child for child in self._children if (child.name == "redis") is last]
            for child in ending:
                child.process.terminate()
            for child in ending:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.process.wait(self._config.stop_seconds + STOP_GRACE)
        _kill_descendants()
        sockets = self._config.redis_socket.parent
        if sockets != self._config.data_dir / "redis":
            shutil.rmtree(sockets, ignore_errors=True)


class _Readiness:
    """Says once that the stack is ready, or what it waits for."""

    def __init__(self, config: settings.Settings) -> None:
        self._shown = f"[{config.host}]" if ":" in config.host else config.host
        self._shown += f":{config.port}"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)  # noqa: S104
        self._server = host, config.port
        self._patient_until = time.monotonic() + PATIENCE
        self._ready = False
        self._said = ""

    def look(self) -> None:
        """Asks the server, unless it has been ready before."""
        if self._ready:
            return
        status, missing = self._ask()
        if status == 200:
            self._ready = True
            say(f"ready: http://{self._shown}  (Ctrl-C ends it)")
        elif missing != self._said and time.monotonic() > self._patient_until:
            self._said = missing
            say(f"not ready yet: {missing}")

    def _ask(self) -> tuple[int, str]:
        """The status of the answer, and the parts that are missing with the reasons."""
        http_connection = http.client.HTTPConnection(*self._server, timeout=2)
        try:
            http_connection.request("GET", "/readyz", headers={"Host": "localhost"})
            answer = http_connection.getresponse()
            body = json.loads(answer.read())
        except (OSError, http.client.HTTPException):
            return 0, "the web server does not answer yet"
        except ValueError:
            return 0, f"the web server answers with {answer.status}"
        finally:
            http_connection.close()
        parts = body.get("parts", {})
        missing = (f"{name}: {parts.get(name)}" for name in body.get("missing", ()))
        return answer.status, "; ".join(missing) or str(body.get("title", answer.status))


def say(text: str) -> None:
    """A line for the person at the terminal, or for the log."""
    if logs.is_json():
        logging.getLogger(__name__).info(text)
    else:
        print(f"ocr-tasks: {text}", file=sys.stderr, flush=True)


def _popen(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    def die_with_parent() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)

    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=die_with_parent,  # the supervisor has one thread, so this is safe
    )


def _redis_command(config: settings.Settings) -> list[str]:
    program = shutil.which("redis-server")
    if program is None:
        raise StartError("redis-server is not installed; install it or set OCR_REDIS_URL")
    folder = config.data_dir / "redis"
    for path in (folder, config.redis_socket.parent):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return [
        program,
        *("--port", "0", "--unixsocket", str(config.redis_socket), "--unixsocketperm", "700"),
        *("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "everysec"),
        *("--save", "", "--maxmemory-policy", "noeviction", "--loglevel", "warning"),
        *("--daemonize", "no", "--databases", "1", "--logfile", str(folder / "redis.log")),
    ]


def _wait_for_redis(
    config: settings.Settings, alive: Callable[[], bool], seconds: float = 60
) -> None:
    """Waits until Redis answers; loading a large file of its own takes a while."""
    why_not = _why_remote_is_silent if config.redis_url else _why_embedded_is_silent
    deadline = time.monotonic() + seconds
    while why := why_not(config):
        if not alive():
            raise StartError("Redis ended before it could answer")
        if time.monotonic() > deadline:
            raise StartError(f"Redis does not answer: {why}")
        time.sleep(0.01)


def _why_embedded_is_silent(config: settings.Settings) -> str:
    """Why our own Redis does not answer, '' if it does; without redis-py, which loads slowly."""
    try:
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(2)
            asked.connect(str(config.redis_socket))
            asked.sendall(b"PING\r\n")
            said = asked.recv(100).decode(errors="replace").strip()
    except OSError as error:
        return error.strerror or str(error)
    return "" if said == "+PONG" else said


def _why_remote_is_silent(config: settings.Settings) -> str:
    """Why the Redis of OCR_REDIS_URL does not answer, '' if it does."""
    import redis

    from ocr_tasks.redis import connection

    try:
        with redis.Redis.from_url(
            config.redis, socket_timeout=2, socket_connect_timeout=2
        ) as client:
            client.ping()
    except redis.RedisError as error:
        if why := connection.misfit(error):
            raise StartError(f"OCR_REDIS_URL: {why}") from None
        return str(error) or type(error).__name__
    return ""


@contextlib.contextmanager
def _lock(data_dir: Path) -> Iterator[None]:
    """Makes sure that only one stack works on a data folder."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        file = (data_dir / "lock").open("w")
    except OSError as error:
        reason = f"cannot write to {data_dir} ({error.strerror}); set OCR_DATA_DIR"
        raise StartError(reason) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            reason = f"another `ocr-tasks up` works on {data_dir}; stop it, or set OCR_DATA_DIR"
            raise StartError(reason) from None
        yield


@contextlib.contextmanager
def _signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[socket.socket]:
    """Calls the handler at signals that say stop; gives a socket that has data after each one."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    woken, waking = socket.socketpair()
    with woken, waking:
        waking.setblocking(False)
        earlier = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        try:
            yield woken
        finally:
            signal.set_wakeup_fd(earlier)
            for number, old in before.items():
                signal.signal(number, old)


def _kill_descendants() -> None:
    """Kills whatever is left below this process, orphans included, and reaps it."""
    for _ in range(20):
        left = psutil.Process().children(recursive=True)
        if not left:
            return
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=0.5)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
