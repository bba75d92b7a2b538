"""Cost of containers: image size, cold start, memory, and a document in containers and on the host.

python -m bench.containers [DOCUMENT [LANGUAGE]]     (needs Docker and the image)

If the host has another version of Debian than the image, it also has another Tesseract and Python.
The result lists the versions of both.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from bench.report import interleaved, publish, table
from bench.service import FINAL, document, warm
from tests.compose.stack import Compose, docker, gone_afterwards
from tests.conftest import DATA, submit, wait_until

ROUNDS = 3
MIB = 1024 * 1024


def accepted(client: httpx.Client) -> bool:
    """Returns whether the service accepts a document."""
    try:
        return submit(client, DATA / "huckleberry-finn-p22.pdf").status_code == 202
    except httpx.TransportError:
        return False


def process(client: httpx.Client, source: Path, language: str) -> dict[str, Any]:
    """Submits a document, waits for its end and downloads the PDF. Returns the job."""
    job: dict[str, Any] = submit(client, source, languages=language).json()
    while job["state"] not in FINAL:
        job = client.get(f"/v1/jobs/{job['id']}", params={"wait": 30}).json()
    assert job["state"] == "succeeded", job
    client.get(f"/v1/jobs/{job['id']}/pdf")
    return job


def memory(stack: Compose) -> list[list[object]]:
    """Returns the memory of each container, as Docker reports it (without the page cache)."""
    rows = docker("stats", "--no-stream", "--format", "{{json .}}", *stack.containers())
    stats = [json.loads(row) for row in rows.splitlines()]
    usages = [(row["Name"].removeprefix(f"{stack.project}-"), row["MemUsage"]) for row in stats]
    return [[name, usage.split(" / ")[0]] for name, usage in sorted(usages)]


def image_size(image: str) -> int:
    """Returns the size of an image in bytes."""
    return int(docker("image", "inspect", "--format", "{{.Size}}", image))


def main() -> None:
    source, language = document()
    size, base_size = image_size("ocr-tasks:latest"), image_size("debian:trixie-slim")
    with tempfile.TemporaryDirectory() as name:
        stack = Compose(Path(name) / "ocr-tasks", "ocr-tasks-bench")
        with gone_afterwards(stack), httpx.Client(base_url=stack.url, timeout=120) as client:
            started = time.monotonic()
            stack.up()
            wait_until(lambda: accepted(client), 120)
            cold_start = time.monotonic() - started
            wait_until(lambda: stack.ready(), 60)
            process(client, source, language)
            time.sleep(20)
            idle = memory(stack)
            with warm(source, language) as service:
                jobs: dict[str, dict[str, Any]] = {}

                def inside() -> None:
                    jobs["in containers"] = process(client, source, language)

                def outside() -> None:
                    jobs["on the host"] = process(service.http, source, language)

                seconds = interleaved({"in containers": inside, "on the host": outside}, ROUNDS)
    inside_seconds, outside_seconds = seconds["in containers"], seconds["on the host"]
    versions = [
        f"OCRmyPDF {version['ocrmypdf']} and Tesseract {version['tesseract']} {where}"
        for where, version in ((where, job["versions"]) for where, job in jobs.items())
    ]
    publish(
        "containers",
        "Containers",
        f"Image size: {size / 1e6:.0f} MB, including the base image of {base_size / 1e6:.0f} MB. "
        f"From `docker compose up` to the first accepted document: {cold_start:.1f} s. "
        f"{source.name} takes {inside_seconds / outside_seconds:.2f} × as long in containers as on "
        f"the host ({inside_seconds:.2f} s, {outside_seconds:.2f} s; medians of {ROUNDS}). "
        f"Versions: {', '.join(versions)}.",
        table(["container, idle after a document", "memory"], idle),
    )


if __name__ == "__main__":
    main()
