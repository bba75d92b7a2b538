"""Conditions for every accepted job after all faults have ended."""

from __future__ import annotations

import io
import re
import subprocess
from pathlib import Path
from typing import Any

import pikepdf

from tests.chaos import documents
from tests.chaos.jobs import FINAL, Client, Sent
from tests.chaos.stack import Stack


def wrong_with(client: Client, stack: Stack, sent: Sent, job: dict[str, Any]) -> list[str]:
    """Returns the errors of a job that has ended."""
    state, code = job["state"], (job.get("error") or {}).get("code")
    if state not in FINAL:
        return [f"lost: {state}"]
    if sent.poison and not sent.cancelled:
        expected = (state, code) == ("failed", "worker_lost")
        return [] if expected else [f"poison ended as {state} {code}"]
    if state == "cancelled":
        return _cancelled(client, sent)
    if state == "failed":
        return [f"failed with {code}"]
    found = [f"page {row['page']} failed: {row['code']}" for row in job["failed_pages"]]
    found += _wrong_results(client, sent, job)
    return found + _leftovers(stack, sent, job)


def _cancelled(client: Client, sent: Sent) -> list[str]:
    found = [] if sent.cancelled or sent.poison else ["cancelled by nobody"]
    if client.get(f"/v1/jobs/{sent.id}/pdf").status_code != 409:
        found.append("a cancelled job has results")
    return found


def _wrong_results(client: Client, sent: Sent, job: dict[str, Any]) -> list[str]:
    found = []
    content = client.get(f"/v1/jobs/{sent.id}/pdf").content
    try:
        with pikepdf.open(io.BytesIO(content)) as pdf:
            if len(pdf.pages) != sent.pages:
                found.append(f"{len(pdf.pages)} pages instead of {sent.pages}")
    except pikepdf.PdfError as error:
        return [f"the PDF is damaged: {error}"]
    text = client.get(f"/v1/jobs/{sent.id}/text").text
    texts = {"PDF": _pages(content), "text": text.split("\f")}
    for number in range(1, sent.pages + 1):
        expected = documents.words_of(sent.code, number)
        for name, pages in texts.items():
            words = set(re.findall(r"[A-Z]+", pages[number - 1])) if len(pages) >= number else set()
            if not expected <= words:
                found.append(f"page {number} of the {name} lacks {sorted(expected - words)}")
    return found


def _pages(content: bytes) -> list[str]:
    command = ["pdftotext", "-", "-"]
    said = subprocess.run(command, input=content, capture_output=True, check=False)
    return said.stdout.decode(errors="replace").split("\f")


def _leftovers(stack: Stack, sent: Sent, job: dict[str, Any]) -> list[str]:
    folder = _folder(stack, sent)
    found = ["a work folder is left"] if (folder / "work").exists() else []
    runs = list((folder / "runs").iterdir())
    if len(runs) != 1:
        found.append(f"{len(runs)} runs are left")
    return found


def _folder(stack: Stack, sent: Sent) -> Path:
    return stack.data / "jobs" / sent.id[:2] / sent.id


def left_in_redis(stack: Stack) -> list[str]:
    """Returns the keys that should not be in Redis after the last job."""
    client = stack.redis()
    found = []
    for key in ("ocr:leases", "ocr:awaited", "ocr:jobs:queued", "ocr:jobs:running"):
        if members := client.zrange(key, 0, -1):
            found.append(f"{key} has {members}")
    for lane in ("ocr.interactive", "ocr", "ocr.pages", "ocr.bulk"):
        if waiting := client.llen(lane):
            found.append(f"{waiting} messages wait in {lane}")
    found += [f"{key} is left" for key in client.scan_iter("ocr:batch:*")]
    return found


def counted_wrongly(stack: Stack, sent: list[Sent]) -> list[str]:
    """Returns an error unless the counters have exactly one end for each job and each retry."""
    stats = stack.redis().hgetall("ocr:stats")
    ends = sum(int(float(stats.get(f"jobs_{state}", 0))) for state in FINAL)
    known = int(stack.redis().zcard("ocr:jobs"))
    expected = known + sum(job.retries for job in sent)
    return [] if ends == expected else [f"{ends} ends of {expected} runs that were asked for"]


def left_on_disk(stack: Stack) -> list[str]:
    uploads = stack.data / "uploads"
    return [f"upload {path.name} is left" for path in uploads.iterdir()] if uploads.exists() else []
