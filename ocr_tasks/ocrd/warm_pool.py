"""The processors that this process keeps loaded: programs that wait for orders (see `warm`)."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ocr_tasks import settings
from ocr_tasks.ocrd import programs

_SCRIPT = Path(__file__).with_name("warm.py")

#: Seconds that one has to end when it gets no orders any more.
_END_SECONDS = 5

#: A processor, as it is: another version of it is another one.
Version = tuple[Path, int]


class CannotBeKept(Exception):
    """The processor cannot be loaded so that it stays: it is to be called as a program."""


class Died(Exception):
    """The processor has died in a run; the text says how."""


class _Warm:
    """A processor that is loaded."""

    def __init__(self, path: Path, log: Path) -> None:
        """Loads it; what it prints meanwhile goes to the log."""
        command = _command(path)
        reading, writing = os.pipe()
        self._answers = os.fdopen(reading, "rb")
        try:
            with log.open("ab") as words:
                # In the same process group as this process, so that it is killed with it.
                self._process = subprocess.Popen(
                    [*command, "--serve", str(writing)],
                    stdin=subprocess.PIPE,
                    stdout=words,
                    stderr=words,
                    pass_fds=[writing],
                    env=programs.environment(),
                    cwd=programs.home(),
                )
        except OSError as error:
            self._answers.close()
            raise CannotBeKept(str(error)) from error
        finally:
            os.close(writing)
        try:
            said = self._answer()
        except Died as error:
            self.kill()
            raise CannotBeKept(str(error)) from error
        except BaseException:
            self.kill()
            raise
        if not said.get("ready"):
            self.kill()
            raise CannotBeKept(str(said.get("error", "")))

    def lives(self) -> bool:
        return self._process.poll() is None

    def run(self, order: dict[str, Any]) -> dict[str, Any]:
        """The answer to an order; what interrupts it ends the processor as well."""
        assert self._process.stdin  # noqa: S101  # for mypy
        try:
            with suppress(BrokenPipeError):  # it has died, and is found so below
                self._process.stdin.write(json.dumps(order).encode() + b"\n")
                self._process.stdin.flush()
            return self._answer()
        except BaseException:
            self.kill()
            raise

    def _answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            self._process.kill()
            raise Died(in_words(self._process.wait())) from None
        return answer

    def end(self) -> None:
        """Lets it end, as nobody has orders for it."""
        self._close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        with suppress(BrokenPipeError):
            if self._process.stdin:
                self._process.stdin.close()
        self._answers.close()


def _command(path: Path) -> list[str]:
    """What to call for a processor that stays."""
    python = programs.interpreter(path)
    if python is None:
        raise CannotBeKept("it is no script of Python")
    # Isolated: the modules beside ours are none of its business.
    return [python, "-I", str(_SCRIPT), str(path)]


def in_words(status: int) -> str:
    """How a program has ended."""
    return f"It was killed by signal {-status}." if status < 0 else f"It ended with {status}."


# Those that are idle, the one that was used last at the end, and those that cannot be kept.
_lock = threading.Lock()
_idle: list[tuple[Version, _Warm]] = []
_cold: set[Version] = set()


def run(path: Path, order: dict[str, Any], log: Path) -> dict[str, Any]:
    """The answer of a processor to an order (see `warm`); it is loaded if it is not yet."""
    version = (path, path.stat().st_mtime_ns)
    if settings.get().ocrd_warm_processors == 0 or version in _cold:
        raise CannotBeKept
    with _taken(version, log) as warm:
        return warm.run(order)


@contextmanager
def _taken(version: Version, log: Path) -> Iterator[_Warm]:
    """One that is nobody else's meanwhile."""
    warm = _idle_one(version)
    if warm is None:
        try:
            warm = _Warm(version[0], log)
        except CannotBeKept:
            _cold.add(version)
            raise
    yield warm  # one in which something goes wrong has ended
    with _lock:
        _idle.append((version, warm))
        many = len(_idle) - settings.get().ocrd_warm_processors
        left = [_idle.pop(0)[1] for _ in range(many)]
    for old in left:
        old.end()


def _idle_one(version: Version) -> _Warm | None:
    dead = []
    try:
        with _lock:
            for place in range(len(_idle) - 1, -1, -1):
                if _idle[place][0] == version:
                    warm = _idle.pop(place)[1]
                    if warm.lives():
                        return warm
                    dead.append(warm)
        return None
    finally:
        for warm in dead:
            warm.kill()


def end_all() -> None:
    """Lets all end that are idle."""
    with _lock:
        left = [warm for _, warm in _idle]
        _idle.clear()
    for warm in left:
        warm.end()
