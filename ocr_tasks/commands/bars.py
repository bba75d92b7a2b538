"""Progress bars of jobs, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ocr_tasks.client import Job


@contextmanager
def bars() -> Iterator[Progress]:
    """Room for bars, for the time of the block; where there is no terminal they are not seen."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    # Results that are printed into a file or a pipe must not come out between the bars.
    console, redirect = Console(stderr=True), sys.stdout.isatty()
    with Progress(
        *columns, console=console, redirect_stdout=redirect, disable=not console.is_terminal
    ) as progress:
        yield progress


def listener(progress: Progress, task: TaskID, name: str = "") -> Callable[[Job], None]:
    """Has a bar show how far a job is, of a document with this name."""

    def show(job: Job) -> None:
        stage = job.stage or job.state
        done = job.progress.pages_done
        words = f"page {done} of {job.input.pages}" if stage == "ocr" else stage
        progress.update(task, completed=job.progress.percent, description=f"{name}{words}")

    return show
