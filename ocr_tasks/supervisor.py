"""`ocr-tasks up`: runs Redis, workers and the web server as children of one process.

Each child leads its own session. Ctrl-C therefore reaches only the supervisor, which stops the
web server and the workers first, and Redis last. The supervisor adopts orphans
(PR_SET_CHILD_SUBREAPER, prctl(2)) and kills the remaining ones when it stops. If the supervisor
itself is killed, the kernel sends the children SIGTERM (PR_SET_PDEATHSIG).
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

from ocr_tasks import extensions, logs, settings

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)

#: Seconds that a child has to exit, in addition to OCR_STOP_SECONDS.
STOP_GRACE = 6

#: Minimum seconds between two starts of the same child.
RESTART_SECONDS = 2.0

#: Seconds between two checks of the children.
CHECK_INTERVAL = 0.2

#: Seconds after which the supervisor reports what a stack that is not ready is waiting for.
READY_SECONDS = 15.0


class StartError(Exception):
    """The stack cannot be started. The message says why, and what to do."""


@dataclass
class _Child:
    name: str
    command: list[str]
    process: subprocess.Popen[bytes]
    started_at: float


class Supervisor:
    """Starts the processes of the stack, restarts those that exit, and stops them."""

    def __init__(self, config: settings.Settings, environment: Mapping[str, str]) -> None:
        """`environment` contains the environment variables of the children."""
        self._config = config
        self._environment = dict(environment)
        self._children: list[_Child] = []
        self._stopping = False

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Starts the stack, and stops it when the block ends."""
        logs.set_up()
        with _lock(self._config.data_dir), _signals(self._on_signal) as self._signals:
            _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            try:
                self._start()
                yield
            finally:
                self._stop()

    def watch(self) -> None:
        """Restarts children that exit until a stop signal arrives, and reports readiness."""
        readiness = _Readiness(self._config)
        while not self._stopping:
            for child in self._children:
                if child.process.poll() is not None and not self._stopping:
                    self._restart(child)
            self._reap_orphans()
            readiness.check()
            self._wait(CHECK_INTERVAL)

    def _wait(self, seconds: float) -> None:
        """Waits until the time has passed or a signal arrives."""
        if select.select([self._signals], [], [], seconds)[0]:
            self._signals.recv(4096)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _start(self) -> None:
        if not self._config.redis_url:
            self._spawn("redis", _redis_command(self._config))
        _wait_for_redis(self._config, lambda: self._alive("redis") and not self._stopping)
        worker = [sys.executable, "-m", "ocr_tasks.cli", "worker"]
        separate = [one for each in extensions.installed() if (one := each.separate_worker())]
        self._spawn("worker", [*worker, *(word for one in separate for word in one.for_documents)])
        for one in separate:
            self._spawn(one.name, [*worker, *one.arguments])
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
        """Reaps adopted processes that have exited. Direct children are left to `poll`."""
        children = {child.process.pid for child in self._children}
        with contextlib.suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if ended.si_pid in children:
                    break
                os.waitpid(ended.si_pid, 0)

    def _restart(self, child: _Child) -> None:
        say(f"{child.name} exited with code {child.process.returncode}; restarting it")
        time.sleep(max(0.0, RESTART_SECONDS - (time.monotonic() - child.started_at)))
        child.process = _popen(child.command, self._environment)
        child.started_at = time.monotonic()

    def _stop(self) -> None:
        # Redis stops last, because the other processes write to it while they stop.
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
    """Reports once when the stack is ready, and until then what it is waiting for."""

    def __init__(self, config: settings.Settings) -> None:
        self._authority = f"[{config.host}]" if ":" in config.host else config.host
        self._authority += f":{config.port}"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)  # noqa: S104
        self._server = host, config.port
        self._deadline = time.monotonic() + READY_SECONDS
        self._ready = False
        self._reported = ""

    def check(self) -> None:
        """Requests /readyz, unless the server has already been ready."""
        if self._ready:
            return
        status, missing = self._request()
        if status == 200:
            self._ready = True
            say(f"ready: http://{self._authority}  (Ctrl-C to stop)")
        elif missing != self._reported and time.monotonic() > self._deadline:
            self._reported = missing
            say(f"not ready yet: {missing}")

    def _request(self) -> tuple[int, str]:
        """Returns the HTTP status (0 if none), and the missing parts with their reasons."""
        http_connection = http.client.HTTPConnection(*self._server, timeout=2)
        try:
            http_connection.request("GET", "/readyz", headers={"Host": "localhost"})
            response = http_connection.getresponse()
            body = json.loads(response.read())
        except (OSError, http.client.HTTPException):
            return 0, "the web server does not respond yet"
        except ValueError:
            return 0, f"the web server responds with status {response.status}"
        finally:
            http_connection.close()
        parts = body.get("parts", {})
        missing = (f"{name}: {parts.get(name)}" for name in body.get("missing", ()))
        return response.status, "; ".join(missing) or str(body.get("title", response.status))


def say(text: str) -> None:
    """Prints a line to standard error, or logs it if the log format is JSON."""
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
        preexec_fn=die_with_parent,  # safe, because the supervisor has only one thread
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
    """Waits until Redis responds. Loading a large append-only file takes a while."""
    ping = _ping_external if config.redis_url else _ping_embedded
    deadline = time.monotonic() + seconds
    while error := ping(config):
        if not alive():
            raise StartError("Redis exited before it responded")
        if time.monotonic() > deadline:
            raise StartError(f"Redis does not respond: {error}")
        time.sleep(0.01)


def _ping_embedded(config: settings.Settings) -> str:
    """Pings the Redis of this stack. Returns the error, or '' if Redis responds.

    Does not use redis-py, because importing it is slow.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(str(config.redis_socket))
            connection.sendall(b"PING\r\n")
            reply = connection.recv(100).decode(errors="replace").strip()
    except OSError as error:
        return error.strerror or str(error)
    return "" if reply == "+PONG" else reply


def _ping_external(config: settings.Settings) -> str:
    """Pings the Redis at OCR_REDIS_URL. Returns the error, or '' if Redis responds."""
    import redis

    from ocr_tasks.redis import connection

    try:
        with redis.Redis.from_url(
            config.redis, socket_timeout=2, socket_connect_timeout=2
        ) as client:
            client.ping()
    except redis.RedisError as error:
        if reason := connection.rejection_reason(error):
            raise StartError(f"OCR_REDIS_URL: {reason}") from None
        return str(error) or type(error).__name__
    return ""


@contextlib.contextmanager
def _lock(data_dir: Path) -> Iterator[None]:
    """Holds an exclusive lock on the data folder, so that only one stack uses it."""
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
            reason = f"another `ocr-tasks up` uses {data_dir}; stop it, or set OCR_DATA_DIR"
            raise StartError(reason) from None
        yield


@contextlib.contextmanager
def _signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[socket.socket]:
    """Calls the handler on SIGINT, SIGTERM and SIGHUP.

    Yields a socket that becomes readable after each signal.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    old_handlers = {number: signal.signal(number, handler) for number in numbers}
    receiver, sender = socket.socketpair()
    with receiver, sender:
        sender.setblocking(False)
        old_fd = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        try:
            yield receiver
        finally:
            signal.set_wakeup_fd(old_fd)
            for number, old_handler in old_handlers.items():
                signal.signal(number, old_handler)


def _kill_descendants() -> None:
    """Kills and reaps all remaining descendants of this process, including orphans."""
    for _ in range(20):
        remaining = psutil.Process().children(recursive=True)
        if not remaining:
            return
        for process in remaining:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(remaining, timeout=0.5)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
