"""The processors that this process keeps loaded, each in a program that runs `warm`."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ocr_tasks.ocrd import programs
from ocr_tasks.ocrd import settings as ocrd_settings

_SCRIPT = Path(__file__).with_name("warm.py")

#: Seconds that a processor has to exit after its standard input is closed.
_CLOSE_SECONDS = 5

#: The path and modification time of a processor.
Version = tuple[Path, int]


class NotLoadable(Exception):
    """The processor cannot stay loaded; it has to be started for each run."""


class ProcessorDied(Exception):
    """The processor exited during a run; the text says how."""


class _LoadedProcessor:
    """A processor that is loaded, in a child process."""

    def __init__(self, path: Path, log: Path) -> None:
        """Starts and loads it; its output is appended to the log. May raise NotLoadable."""
        command = _command(path)
        reading, writing = os.pipe()
        self._responses = os.fdopen(reading, "rb")
        try:
            with log.open("ab") as output:
                # In this process's group, which is killed when the job ends.
                self._process = subprocess.Popen(
                    [*command, "--serve", str(writing)],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    pass_fds=[writing],
                    env=programs.environment(),
                    cwd=programs.home(),
                )
        except OSError as error:
            self._responses.close()
            raise NotLoadable(str(error)) from error
        finally:
            os.close(writing)
        try:
            response = self._response()
        except ProcessorDied as error:
            self.kill()
            raise NotLoadable(str(error)) from error
        except BaseException:
            self.kill()
            raise
        if not response.get("ready"):
            self.kill()
            raise NotLoadable(str(response.get("error", "")))

    def is_alive(self) -> bool:
        """Returns whether the child process is running."""
        return self._process.poll() is None

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Sends a request and returns the response. Kills the processor on any exception."""
        assert self._process.stdin  # noqa: S101  # for mypy
        try:
            with suppress(BrokenPipeError):  # it has exited; _response raises
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
            return self._response()
        except BaseException:
            self.kill()
            raise

    def _response(self) -> dict[str, Any]:
        """Waits for a response. Raises ProcessorDied if the process has exited."""
        line = self._responses.readline()
        try:
            response: dict[str, Any] = json.loads(line)
        except ValueError:
            self._process.kill()
            raise ProcessorDied(describe_exit(self._process.wait())) from None
        return response

    def close(self) -> None:
        """Closes standard input, so that it exits; kills it after `_CLOSE_SECONDS`."""
        self._close_pipes()
        try:
            self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kills the child process."""
        self._process.kill()
        self._process.wait()
        self._close_pipes()

    def _close_pipes(self) -> None:
        with suppress(BrokenPipeError):
            if self._process.stdin:
                self._process.stdin.close()
        self._responses.close()


def _command(path: Path) -> list[str]:
    """Returns the command that loads a processor; raises NotLoadable if it is not Python."""
    python = programs.interpreter(path)
    if python is None:
        raise NotLoadable("it is not a Python script")
    # Isolated mode: it must not import the modules next to warm.py.
    return [python, "-I", str(_SCRIPT), str(path)]


def describe_exit(status: int) -> str:
    """Returns a sentence about an exit status."""
    return f"It was killed by signal {-status}." if status < 0 else f"It ended with {status}."


# Idle processors, the last used one at the end, and processors that cannot stay loaded.
_lock = threading.Lock()
_idle: list[tuple[Version, _LoadedProcessor]] = []
_not_loadable: set[Version] = set()


def run(path: Path, request: dict[str, Any], log: Path) -> dict[str, Any]:
    """Runs a processor with a request, and returns the response (see `warm`).

    Loads the processor if it is not loaded. Raises NotLoadable or ProcessorDied.
    """
    version = (path, path.stat().st_mtime_ns)
    if ocrd_settings.get().ocrd_warm_processors == 0 or version in _not_loadable:
        raise NotLoadable
    with _acquired(version, log) as warm:
        return warm.run(request)


@contextmanager
def _acquired(version: Version, log: Path) -> Iterator[_LoadedProcessor]:
    """Yields a loaded processor for exclusive use, then keeps it for the next run."""
    warm = _pop_idle(version)
    if warm is None:
        try:
            warm = _LoadedProcessor(version[0], log)
        except NotLoadable:
            _not_loadable.add(version)
            raise
    yield warm  # after an exception it has been killed
    with _lock:
        _idle.append((version, warm))
        many = len(_idle) - ocrd_settings.get().ocrd_warm_processors
        left = [_idle.pop(0)[1] for _ in range(many)]
    for old in left:
        old.close()


def _pop_idle(version: Version) -> _LoadedProcessor | None:
    """Removes and returns an idle processor that is alive, if there is one."""
    dead = []
    try:
        with _lock:
            for place in range(len(_idle) - 1, -1, -1):
                if _idle[place][0] == version:
                    warm = _idle.pop(place)[1]
                    if warm.is_alive():
                        return warm
                    dead.append(warm)
        return None
    finally:
        for warm in dead:
            warm.kill()


def close_all() -> None:
    """Closes all idle processors."""
    with _lock:
        left = [warm for _, warm in _idle]
        _idle.clear()
    for warm in left:
        warm.close()
