"""What containers cost: the image, a cold start, memory at rest, and the same document in both.

python -m bench.containers [DOCUMENT [LANGUAGE]]     needs Docker, and the image

The same service on the host has another Tesseract and Python where the host's Debian is not the
image's; the table tells both versions.
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
    """Whether a document is taken."""
    try:
        return submit(client, DATA / "huckleberry-finn-p22.pdf").status_code == 202
    except httpx.TransportError:
        return False


def read(client: httpx.Client, source: Path, language: str) -> dict[str, Any]:
    """Sends a document, waits for its end, and fetches the PDF."""
    job: dict[str, Any] = submit(client, source, languages=language).json()
    while job["state"] not in FINAL:
        job = client.get(f"/v1/jobs/{job['id']}", params={"wait": 30}).json()
    assert job["state"] == "succeeded", job
    client.get(f"/v1/jobs/{job['id']}/pdf")
    return job


def memory(stack: Compose) -> list[list[object]]:
    """MiB of each container, as Docker counts them (without the cache of files)."""
    rows = docker("stats", "--no-stream", "--format", "{{json .}}", *stack.containers())
    found = [json.loads(row) for row in rows.splitlines()]
    names = [(row["Name"].removeprefix(f"{stack.project}-"), row["MemUsage"]) for row in found]
    return [[name, usage.split(" / ")[0]] for name, usage in sorted(names)]


def base(image: str) -> int:
    """Bytes of an image."""
    return int(docker("image", "inspect", "--format", "{{.Size}}", image))


def main() -> None:
    source, language = document()
    size, below = base("ocr-tasks:latest"), base("debian:trixie-slim")
    with tempfile.TemporaryDirectory() as name:
        stack = Compose(Path(name) / "ocr-tasks", "ocr-tasks-bench")
        with gone_afterwards(stack), httpx.Client(base_url=stack.url, timeout=120) as client:
            started = time.monotonic()
            stack.up()
            wait_until(lambda: accepted(client), 120)
            cold = time.monotonic() - started
            wait_until(lambda: stack.ready(), 60)
            read(client, source, language)
            time.sleep(20)
            rest = memory(stack)
            with warm(source, language) as service:
                jobs: dict[str, dict[str, Any]] = {}

                def inside() -> None:
                    jobs["containers"] = read(client, source, language)

                def outside() -> None:
                    jobs["host"] = read(service.http, source, language)

                seconds = interleaved({"containers": inside, "on the host": outside}, ROUNDS)
    versions = {name: job["versions"] for name, job in jobs.items()}
    publish(
        "containers",
        "Containers",
        f"The image is {size / 1e6:.0f} MB, of which {below / 1e6:.0f} MB are the base. From "
        f"`docker compose up` to the first document that is accepted: {cold:.1f} s. "
        f"{source.name} takes {seconds['containers'] / seconds['on the host']:.2f} × as long in "
        f"containers as on the host ({seconds['containers']:.2f} s, "
        f"{seconds['on the host']:.2f} s; median of {ROUNDS}). Versions: {versions}.",
        table(["at rest, after a document", "memory"], rest),
    )


if __name__ == "__main__":
    main()
