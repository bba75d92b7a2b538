"""Overhead of progress: CPU time of reports, page leases, and ten clients that poll.

python -m bench.progress [DOCUMENT [LANGUAGE]]
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any

import httpx
import psutil

from bench.report import publish, table
from bench.service import Service, document, warm

POLLERS = 10
CALLS = 2000
REPORT = """
import resource, sys, time
from ocr_tasks.app import app
from ocr_tasks.jobs import page_queue, queues
from ocr_tasks.model import Progress, Stage
import ocr_tasks.worker.tasks

job_id, calls = sys.argv[1], int(sys.argv[2])
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
def measure(call):
    call(0)
    before = cpu()
    for number in range(1, calls):
        call(number)
    return (cpu() - before) / calls
def report(number):
    progress = Progress(pages_total=calls, pages_done=number, stage=Stage.OCR).to_dict()
    try:
        app.backend.store_result(job_id, progress, "PROGRESS")
    except Exception as error:
        assert type(error).__name__ == "NotWritten", error
def lease(number):
    item = page_queue.acquire("bench:1", "reader")
    page_queue.complete("bench:1", item, "reader")
    page_queue.collect("bench:1", 1)
def message(number):
    queues.call_helpers(job_id, "pages", "none:1", 1)
page_queue.open_batch("bench:1", range(calls))
print(measure(report), measure(lease), measure(message))
page_queue.close("bench:1")
"""


def cpu_by_part(service: Service) -> dict[str, float]:
    """Returns the CPU seconds so far of Redis, the web processes and the workers."""
    parts = {"redis": 0.0, "web": 0.0, "worker": 0.0}
    assert service.stack.process
    for process in psutil.Process(service.stack.process.pid).children(recursive=True):
        try:
            command, times = " ".join(process.cmdline()), process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        part = "redis" if "redis" in command else "web" if command.endswith(" web") else "worker"
        parts[part] += times.user + times.system
    return parts


def poll(url: str, ended: threading.Event, statuses: list[int]) -> None:
    """Polls a job every second, as the web page does if it cannot use server-sent events."""
    with httpx.Client() as client:
        while not ended.wait(1):
            statuses.append(client.get(url).status_code)


def job_with_pollers(service: Service, source: Any, language: str) -> tuple[dict[str, float], int]:
    """Runs a job that ten clients poll. Returns CPU seconds by part, and the number of polls."""
    before = cpu_by_part(service)
    ended, statuses = threading.Event(), [0]
    job = service.submit(source, languages=language)
    url = service.stack.url + job["links"]["self"]
    pollers = [threading.Thread(target=poll, args=(url, ended, statuses)) for _ in range(POLLERS)]
    for poller in pollers:
        poller.start()
    while service.show(job)["state"] in ("queued", "running"):
        time.sleep(2)
    ended.set()
    for poller in pollers:
        poller.join()
    after = cpu_by_part(service)
    return {part: after[part] - before[part] for part in before}, len(statuses) - 1


def main() -> None:
    source, language = document()
    with warm(source, language) as service:
        spent, polls = job_with_pollers(service, source, language)
        job = service.submit(source, languages=language)
        service.http.post(f"{job['links']['self']}/cancel")
        command = [sys.executable, "-c", REPORT, job["id"], str(CALLS)]
        done = subprocess.run(
            command, env=service.stack.environment, check=True, capture_output=True, text=True
        )
        pages = job["input"]["pages"]
    report, lease, message = (float(cost) for cost in done.stdout.split())
    total = sum(spent.values())
    per_page: list[tuple[str, float]] = [
        # OCR_PROGRESS_INTERVAL allows four reports per second, and a page takes about a second.
        ("progress reports (4 per page)", 4 * report),
        ("lease, complete and collect a page", lease),
        ("helper messages (at most 1 per page)", message),
    ]
    rows = [
        [name, f"{cost * 1000:.2f} ms", f"{cost * pages / total:.2%}"] for name, cost in per_page
    ]
    rows.append(["sum", "", f"{sum(cost for _, cost in per_page) * pages / total:.2%}"])
    rows += [
        [f"web processes, {POLLERS} clients, {polls} polls", "", f"{spent['web'] / total:.2%}"],
        ["Redis, total", "", f"{spent['redis'] / total:.2%}"],
    ]
    publish(
        "progress",
        "Overhead of progress",
        f"CPU time in the processes that report progress of {source.name} ({pages} pages), as a "
        f"share of all CPU time of the service during the job ({total:.1f} s).",
        table(["", "CPU time per page", "share"], rows),
    )


if __name__ == "__main__":
    main()
