"""The page queue under load: pages a second over HTTP, and what devices cost that only wait.

    python -m bench.swarm

Fake devices read nothing, so what is measured is handing out, taking in and storing. Beside it in
the same run: the same number of requests that do next to nothing (`/healthz`).
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
    """A page by docr/smd's REST: two requests. False: nothing waits."""
    connection.request("GET", "/page")
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        return False
    where = urlsplit(answer.headers["X-docr-Server-URL"])
    connection.request("PUT", f"{where.path}?{where.query}", b"The words of a page.\n" * 40)
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise RuntimeError(f"HTTP status {answer.status}")
    return True


def two_requests(connection: Connection, number: int) -> bool:
    for _ in range(2):
        connection.request("GET", "/healthz")
        connection.getresponse().read()
    return True


def _clients(port: int, work: Callable[[Connection, int], bool], most: int) -> None:
    counts = itertools.count()

    def go_on(number: int) -> None:
        connection = Connection("127.0.0.1", port, timeout=60)
        while next(counts) < most and work(connection, number):
            pass
        connection.close()

    threads = [
        threading.Thread(target=go_on, args=(number,)) for number in range(DEVICES // PROCESSES)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def rate(stack: Stack, work: Callable[[Connection, int], bool]) -> float:
    """Rounds a second, by 50 clients."""
    began = time.monotonic()
    processes = [
        multiprocessing.Process(target=_clients, args=(stack.port, work, PAGES // PROCESSES))
        for _ in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return PAGES / (time.monotonic() - began)


def manage(stack: Stack, *arguments: str) -> str:
    command = [sys.executable, "-m", "ocr_tasks.cli", "swarm", *arguments]
    done = subprocess.run(
        command, env=stack.environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def load(stack: Stack, folder: Path) -> float:
    """Registers 10,000 images, in 100 folders; gives the images a second."""
    image = folder / "page.jpg"
    Image.new("L", (300, 400), "white").save(image)
    for number in range(PAGES):
        path = folder / "images" / f"{number // 100:03}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(image)
    began = time.monotonic()
    manage(stack, "load", str(folder / "images"))
    return PAGES / (time.monotonic() - began)


def cpu(stack: Stack) -> float:
    """Seconds of computing by all processes of a stack."""
    assert stack.process
    rows = [stack.process.pid, *(p.pid for p in psutil.Process(stack.process.pid).children(True))]
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in rows)


def poll_milliseconds(stack: Stack, seconds: float) -> float:
    """The median of what somebody waits for a list of jobs meanwhile."""
    found = []
    with stack.client() as client:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            began = time.monotonic()
            client.get("/v1/jobs").raise_for_status()
            found.append(1000 * (time.monotonic() - began))
            time.sleep(0.05)
    return statistics.median(found)


WAITERS = """
import asyncio, json, random, sys
import httpx

async def device(client, url, number, counts):
    await asyncio.sleep(random.uniform(0, 20))
    while True:
        answer = await client.post(url, json={"device": f"phone {number}"})
        counts[0] += answer.status_code == 200
        await asyncio.sleep(answer.json()["retry_after"] * random.uniform(1, 1.5))

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
    """What 1,000 devices cost for which nothing waits."""
    quiet_began, before = time.monotonic(), cpu(stack)
    quiet = poll_milliseconds(stack, 15)
    idle = (cpu(stack) - before) / (time.monotonic() - quiet_began)
    command = [sys.executable, "-c", WAITERS, f"{stack.url}/v1/swarm/leases"]
    with subprocess.Popen(
        [*command, str(WAITING), str(SECONDS)], stdout=subprocess.PIPE, text=True
    ) as devices:
        assert devices.stdout
        devices.stdout.readline()
        began, before = time.monotonic(), cpu(stack)
        busy = poll_milliseconds(stack, SECONDS - 2)
        used = (cpu(stack) - before) / (time.monotonic() - began)
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
            said = manage(stack, "stats")
            transcripts = sum(1 for _ in folder.rglob("*.txt"))
            if f"done         {PAGES}" not in said or transcripts != PAGES:
                raise RuntimeError(f"{transcripts} transcripts, {said}")
            wait_until(lambda: httpx.get(f"{stack.url}/page").status_code == 204)
            rows = waiting(stack)
    publish(
        "swarm",
        "The swarm's page queue",
        f"{PAGES:,} images of a collection, read by {DEVICES} fake docr/smd clients (two requests "
        "a page), each answered once; and two requests that do nothing, by the same clients.\n\n"
        + table(
            ["images registered a second", "pages a second", "nothing, a second", "ratio"],
            [[f"{loaded:.0f}", f"{pages:.0f}", f"{floor:.0f}", f"{pages / floor:.2f}"]],
        )
        + f"\n\n{WAITING:,} devices for which nothing waits, which come back as they are told:",
        table(
            ["devices", "polls a second", "cores used by the service", "a list of jobs takes (ms)"],
            rows,
        ),
    )


if __name__ == "__main__":
    main()
