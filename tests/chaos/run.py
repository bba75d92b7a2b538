"""One run: upload documents, cause faults, stop the faults, check every job."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ocr_tasks import failpoints
from tests.chaos import checks, faults
from tests.chaos.jobs import FINAL, Client, Sent
from tests.chaos.stack import Stack
from tests.conftest import wait_until

#: The timeout in seconds until all remaining jobs have ended.
_CALM_SECONDS = 300

#: The maximum number of faults between two accepted documents: on a slow machine no document would
#: be processed otherwise.
_IN_A_ROW = 3


@dataclass
class Report:
    """The result of a run."""

    seed: int
    jobs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    reruns: int = 0
    retried: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """Returns the number of processes that were killed, or killed themselves at a failpoint."""
        named = sum(self.faults[kind.__name__] for kind in faults.KILLS)
        return named + sum(self.points.values())

    def table(self) -> str:
        """Returns the report in Markdown."""
        rows = [
            ("jobs accepted", f"{self.jobs} ({_words(self.ends)})"),
            ("processes killed", f"{self.kills}"),
            ("faults", _words(self.faults)),
            ("deaths at failpoints", _words(self.points)),
            ("runs begun again", f"{self.reruns}"),
            ("jobs run again by the client (disk full, page lost)", f"{self.retried}"),
            ("lost, doubled, wrong or left over", f"{len(self.violations)}"),
        ]
        return "\n".join(["| what | |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in rows)])


def _words(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items())) or "none"


def run(stack: Stack, seed: int, kills: int, say: Callable[[str], None]) -> Report:
    """Kills at least `kills` processes; half of the time they also die at failpoints.

    The run continues until the same number of jobs was accepted.
    """
    report = Report(seed)
    dice = random.Random(seed)
    say(f"seed {seed}, {kills} kills, {stack.url}")
    stack.start()
    clients = [Client(stack.url, seed * 10 + number, pause=1.0) for number in range(3)]
    try:
        for client in clients:
            client.start()
        _break(stack, clients, dice, report, kills, say)
        for client in clients:
            client.stop()
        say("calm")
        stack.restart_calmly()
        _check(stack, clients, report, say)
    finally:
        for client in clients:
            client.stop()
            client.close()
        left = stack.stop()
    report.violations += [f"left running: {name}" for name in left]
    for violation in report.violations:
        say(f"VIOLATION {violation}")
    return report


def _break(
    stack: Stack,
    clients: list[Client],
    dice: random.Random,
    report: Report,
    kills: int,
    say: Callable[[str], None],
) -> None:
    kinds, weights = list(faults.FAULTS), list(faults.FAULTS.values())
    began = time.monotonic()
    in_a_row, accepted = 0, 0
    while report.kills < kills or accepted < kills:
        time.sleep(dice.expovariate(1 / 1.5))
        if in_a_row == _IN_A_ROW:
            wait_until(lambda known=accepted: stack.revive() or _accepted(clients) > known, 120)
        if _accepted(clients) > accepted:
            in_a_row, accepted = 0, _accepted(clients)
        if not stack.failpoints and report.kills >= kills / 2:
            faults.fail_at_points(stack, dice)
            say("failpoints from now on")
        kind = dice.choices(kinds, weights)[0]
        whom = kind(stack, dice)
        if whom:
            in_a_row += 1
            report.faults[kind.__name__] += 1
            say(f"{time.monotonic() - began:6.1f} {kind.__name__} {whom}")
        time.sleep(0.3)
        stack.revive()
        _count_points(stack, report)


def _accepted(clients: list[Client]) -> int:
    return sum(len(client.sent) for client in clients)


def _count_points(stack: Stack, report: Report) -> None:
    words = stack.log.read_text(errors="replace")
    for name in failpoints.NAMES:
        report.points[name] = words.count(f"failpoint {name}\n")
    report.points += Counter()  # without zeros


def _check(stack: Stack, clients: list[Client], report: Report, say: Callable[[str], None]) -> None:
    sent = [(client, job) for client in clients for job in client.sent]
    say(f"{len(sent)} jobs come to their ends")
    _wait_for_ends(sent)
    # Documents that failed because of the disk or a lost page are retried, and must then succeed.
    for client, job in sent:
        found = client.job(job)
        spoilt = (found.get("error") or {}).get("code") in ("job_storage_full", "job_storage_error")
        if spoilt or found.get("failed_pages"):
            client.retry(job)
            report.retried += 1
    _wait_for_ends(sent)
    say("looking at all of them")
    ends = {job.id: client.job(job) for client, job in sent}
    for turn in stack.redis().keys("ocr:turn:*"):
        stack.redis().delete(turn)
    with contextlib.suppress(AssertionError):  # the checks report what is left
        wait_until(lambda: not checks.left_in_redis(stack), 60)
    for client, job in sent:
        end = ends[job.id]
        report.ends[end["state"]] += 1
        report.reruns += end.get("attempt", 1) - 1 - job.retries
        report.violations += [
            f"job {job.id}: {what}" for what in checks.wrong_with(client, stack, job, end)
        ]
        if client.job(job) != end:
            report.violations.append(f"job {job.id} changed after its end")
    report.jobs = len(sent)
    if len({job.key for _, job in sent}) != len({job.id for _, job in sent}):
        report.violations.append("two jobs for one Idempotency-Key, or one for two")
    report.violations += checks.left_in_redis(stack)
    report.violations += checks.counted_wrongly(stack, [job for _, job in sent])


def _wait_for_ends(sent: list[tuple[Client, Sent]]) -> None:
    def all_ended() -> bool:
        return all(client.job(job)["state"] in FINAL for client, job in sent)

    with contextlib.suppress(AssertionError):  # the checks report which jobs have not ended
        wait_until(all_ended, _CALM_SECONDS)
