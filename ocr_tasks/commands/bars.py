"""Progress bars for jobs, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ocr_tasks.client import Job


@contextmanager
def bars() -> Iterator[Progress]:
    """Yields a progress display, which is disabled if standard error is not a terminal."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    # If standard output is a file or a pipe, results must not go through the display.
    console, redirect = Console(stderr=True), sys.stdout.isatty()
    with Progress(
        *columns, console=console, redirect_stdout=redirect, disable=not console.is_terminal
    ) as progress:
        yield progress


def listener(progress: Progress, task: TaskID, name: str = "") -> Callable[[Job], None]:
    """Returns a callback that updates a bar. `name` is put before the text of the bar."""

    def show(job: Job) -> None:
        stage = job.stage or job.state
        done = job.progress.pages_done
        text = f"page {done} of {job.input.pages}" if stage == "ocr" else stage
        progress.update(task, completed=job.progress.percent, description=f"{name}{text}")

    return show
