"""The swarm's page queue under load: pages per second over HTTP, and the cost of waiting devices.

    python -m bench.swarm

Fake devices run no OCR: the benchmark measures leasing, sending and storing. It is compared with
the same number of requests to `/healthz` in the same run.
"""

from __future__ import annotations

import http.client
import itertools
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
from PIL import Image

from bench.report import publish, table
from tests.conftest import Stack, running_stack, wait_until

PAGES, PROCESSES, DEVICES = 10_000, 2, 50
WAITING, SECONDS = 1000, 40

Connection = http.client.HTTPConnection


def docr_device(connection: Connection, number: int) -> bool:
    """Processes a page with docr/smd's protocol: two requests. Returns False if none is waiting."""
    connection.request("GET", "/page")
    response = connection.getresponse()
    response.read()
    if response.status != 200:
        return False
    url = urlsplit(response.headers["X-docr-Server-URL"])
    connection.request("PUT", f"{url.path}?{url.query}", b"The words of a page.\n" * 40)
    response = connection.getresponse()
    response.read()
    if response.status != 200:
        raise RuntimeError(f"HTTP status {response.status}")
    return True


def two_requests(connection: Connection, number: int) -> bool:
    for _ in range(2):
        connection.request("GET", "/healthz")
        connection.getresponse().read()
    return True


def _clients(port: int, work: Callable[[Connection, int], bool], most: int) -> None:
    counts = itertools.count()

    def run(number: int) -> None:
        connection = Connection("127.0.0.1", port, timeout=60)
        while next(counts) < most and work(connection, number):
            pass
        connection.close()

    threads = [
        threading.Thread(target=run, args=(number,)) for number in range(DEVICES // PROCESSES)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def rate(stack: Stack, work: Callable[[Connection, int], bool]) -> float:
    """Returns how often per second 50 clients together complete `work`."""
    started = time.monotonic()
    processes = [
        multiprocessing.Process(target=_clients, args=(stack.port, work, PAGES // PROCESSES))
        for _ in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return PAGES / (time.monotonic() - started)


def manage(stack: Stack, *arguments: str) -> str:
    command = [sys.executable, "-m", "ocr_tasks.cli", "swarm", *arguments]
    done = subprocess.run(
        command, env=stack.environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def load(stack: Stack, folder: Path) -> float:
    """Loads 10,000 images in 100 folders, and returns the images per second."""
    image = folder / "page.jpg"
    Image.new("L", (300, 400), "white").save(image)
    for number in range(PAGES):
        path = folder / "images" / f"{number // 100:03}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(image)
    started = time.monotonic()
    manage(stack, "load", str(folder / "images"))
    return PAGES / (time.monotonic() - started)


def cpu(stack: Stack) -> float:
    """Returns the CPU seconds of all processes of a stack."""
    assert stack.process
    pids = [stack.process.pid, *(p.pid for p in psutil.Process(stack.process.pid).children(True))]
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def poll_milliseconds(stack: Stack, seconds: float) -> float:
    """Returns the median response time of the list of jobs, measured for some seconds."""
    milliseconds = []
    with stack.client() as client:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            started = time.monotonic()
            client.get("/v1/jobs").raise_for_status()
            milliseconds.append(1000 * (time.monotonic() - started))
            time.sleep(0.05)
    return statistics.median(milliseconds)


WAITERS = """
import asyncio, json, random, sys
import httpx

async def device(client, url, number, counts):
    await asyncio.sleep(random.uniform(0, 20))
    while True:
        response = await client.post(url, json={"device": f"phone {number}"})
        counts[0] += response.status_code == 200
        await asyncio.sleep(response.json()["retry_after"] * random.uniform(1, 1.5))

async def main(url, devices, seconds):
    counts = [0]
    limits = httpx.Limits(max_connections=20)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:
        tasks = [asyncio.create_task(device(client, url, n, counts)) for n in range(devices)]
        await asyncio.sleep(20)
        print("ready", flush=True)
        before = counts[0]
        await asyncio.sleep(seconds)
        print(json.dumps((counts[0] - before) / seconds), flush=True)
        for task in tasks:
            task.cancel()

asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
"""


def waiting(stack: Stack) -> list[list[str]]:
    """Returns rows with the load from no devices, and from 1,000 for which no page is waiting."""
    idle_started, before = time.monotonic(), cpu(stack)
    quiet = poll_milliseconds(stack, 15)
    idle = (cpu(stack) - before) / (time.monotonic() - idle_started)
    command = [sys.executable, "-c", WAITERS, f"{stack.url}/v1/swarm/leases"]
    with subprocess.Popen(
        [*command, str(WAITING), str(SECONDS)], stdout=subprocess.PIPE, text=True
    ) as devices:
        assert devices.stdout
        devices.stdout.readline()
        started, before = time.monotonic(), cpu(stack)
        busy = poll_milliseconds(stack, SECONDS - 2)
        used = (cpu(stack) - before) / (time.monotonic() - started)
        polls = json.loads(devices.stdout.readline())
    return [
        ["none", "", f"{idle:.3f}", f"{quiet:.1f}"],
        [f"{WAITING:,}", f"{polls:.0f}", f"{used:.3f}", f"{busy:.1f}"],
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running_stack(
            folder,
            OCR_WEB_PROCESSES="2",
            OCR_WORKER_PROCESSES="1",
            OCR_SWARM_CHECK_SHARE="0",
            OCR_SWARM_LEASES_MAX="1000",
        ) as stack:
            loaded = load(stack, folder)
            pages, floor = rate(stack, docr_device), rate(stack, two_requests)
            stats = manage(stack, "stats")
            transcripts = sum(1 for _ in folder.rglob("*.txt"))
            if f"done         {PAGES}" not in stats or transcripts != PAGES:
                raise RuntimeError(f"{transcripts} transcripts, {stats}")
            wait_until(lambda: httpx.get(f"{stack.url}/page").status_code == 204)
            rows = waiting(stack)
    publish(
        "swarm",
        "Swarm page queue",
        f"{PAGES:,} images of a collection, processed by {DEVICES} fake docr/smd clients with two "
        "requests per page and no OCR; compared with two requests to `/healthz` from the same "
        "clients. Each page got exactly one transcript.",
        table(
            [
                "images loaded per second",
                "pages per second",
                "`/healthz` twice per second",
                "ratio",
            ],
            [[f"{loaded:.0f}", f"{pages:.0f}", f"{floor:.0f}", f"{pages / floor:.2f}"]],
        ),
        f"{WAITING:,} devices for which no page is waiting, and which poll after `retry_after`:",
        table(
            ["devices", "polls per second", "CPU cores used by the service", "list of jobs, ms"],
            rows,
        ),
    )


if __name__ == "__main__":
    main()
