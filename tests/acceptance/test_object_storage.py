"""Four hosts, two with the API and two with a worker, that share only Redis and a bucket."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis

from tests import documents
from tests.acceptance.test_workers import PAGE, TEXT, failures, pages
from tests.bucket import SECRET, Bucket, serving
from tests.conftest import free_port, matching, submit, wait_for_end, wait_until
from tests.parts import redis_process

pytestmark = pytest.mark.acceptance


@dataclass
class Site:
    """The hosts, each with its own data folder, and what they share."""

    folder: Path
    bucket: Bucket
    redis_url: str
    hosts: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def store(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis_url, decode_responses=True)

    def data(self, host: str) -> Path:
        return self.folder / host

    def start(self, host: str, role: str, **settings: str) -> None:
        """Starts a host; `role` is the name of a command."""
        self.ports.setdefault(host, free_port())
        clean = {name: v for name, v in os.environ.items() if not name.startswith(("OCR_", "AWS_"))}
        environment = clean | self.bucket.settings | {
            "OCR_DATA_DIR": str(self.data(host)),
            "OCR_PORT": str(self.ports[host]),
            "OCR_REDIS_URL": self.redis_url,
            "OCR_PLUGINS": "tests.plugins.faults",
            "OCR_LEASE_SECONDS": "3",
            "OCR_WEB_PROCESSES": "1",
            "OCR_WORKER_PROCESSES": "2",
        }  # fmt: skip
        with (self.folder / f"{host}.log").open("ab") as words:
            self.hosts[host] = subprocess.Popen(
                [sys.executable, "-m", "ocr_tasks.cli", role],
                env=environment | settings,
                stdout=words,
                stderr=words,
                start_new_session=True,
            )

    def kill(self, host: str) -> None:
        """Kills all processes of a host at once, like a power failure."""
        process = psutil.Process(self.hosts[host].pid)
        everything = [process, *process.children(recursive=True)]
        for one in everything:
            one.suspend()
        for one in everything:
            one.kill()
        self.hosts.pop(host).wait()

    def stop(self) -> None:
        for process in self.hosts.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.hosts.values():
            process.wait(60)

    def of(self, job: dict[str, Any]) -> list[str]:
        """Returns the objects of a job."""
        return [name for name in self.bucket.objects() if job["id"] in name]

    def open_gate(self, job: dict[str, Any], host: str) -> None:
        """Continues the pages of a job on a host that wait because of "fault: gate …"."""
        folder = self.data(host) / "jobs" / job["id"][:2] / job["id"]
        wait_until(folder.is_dir)
        (folder / "open").touch()

    def log(self) -> str:
        return "".join(path.read_text() for path in self.folder.glob("*.log"))

    def owner(self, job: dict[str, Any]) -> str:
        """Returns the host whose worker has a job."""
        name = str(self.store.hget(f"celery-task-meta-{job['id']}", "holder"))
        worker = int(name.split(":")[1])
        return next(host for host, process in self.hosts.items() if process.pid == worker)

    @contextlib.contextmanager
    def client(self, host: str) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=f"http://127.0.0.1:{self.ports[host]}", timeout=90) as client:
            yield client


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with serving(folder / "s3") as bucket, redis_process(folder / "redis") as redis_server:
        running = Site(folder, bucket, redis_server.url)
        try:
            for host in ("web-1", "web-2"):
                running.start(host, "web")
            for host in ("worker-1", "worker-2"):
                running.start(host, "worker")
            for host in ("web-1", "web-2"):
                with running.client(host) as http:
                    wait_until(lambda http=http: ready(http), 240)
            wait_until(lambda: len(running.store.keys("ocr:worker:*")) == 2, 240)
            yield running
        finally:
            running.stop()


def ready(http: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return http.get("/readyz").status_code == 200
    return False


@pytest.fixture
def http(site: Site) -> Iterator[httpx.Client]:
    with site.client("web-1") as client:
        yield client


@pytest.fixture
def other(site: Site) -> Iterator[httpx.Client]:
    """A client of the other host of the API."""
    with site.client("web-2") as client:
        yield client


def done(http: httpx.Client, job: dict[str, Any]) -> list[int]:
    rows = http.get(f"{job['links']['self']}/pages").json()["pages"]
    return [row["page"] for row in rows if row["state"] == "done"]


def check_whole(site: Site, http: httpx.Client, job: dict[str, Any]) -> None:
    assert (job["state"], failures(job)) == ("succeeded", [])
    assert http.get(f"{job['links']['self']}/text").text.count(TEXT) == job["input"]["pages"]
    prefix = f"jobs/{job['id'][:2]}/{job['id']}/"

    def rest() -> set[str]:
        """Returns the objects in the bucket that should have been deleted."""
        names = {name.removeprefix(prefix) for name in site.bucket.objects() if job["id"] in name}
        assert {"input.pdf", "job.json", "log.txt", "pages/summaries.json"} <= names
        return {
            n
            for n in names
            if n.endswith((".hocr", "/result.json", "text.txt")) and n[:4] != "runs"
        }

    wait_until(lambda: not rest())
    wait_until(lambda: not scratch(site, job))


def scratch(site: Site, job: dict[str, Any]) -> list[Path]:
    return matching(site.folder, f"*/jobs/*/{job['id']}")


def test_a_scan_becomes_text_and_can_be_downloaded_from_any_host(
    site: Site, http: httpx.Client, other: httpx.Client
) -> None:
    sent = submit(http, PAGE)
    assert sent.status_code == 202, sent.text
    job = wait_for_end(other, sent.json())
    check_whole(site, other, job)
    assert list((site.data("web-1") / "uploads").iterdir()) == []

    artifact = next(row for row in job["artifacts"] if row["name"] == "pdf")
    whole = other.get(f"{job['links']['self']}/pdf")
    assert hashlib.sha256(whole.content).hexdigest() == artifact["sha256"]
    assert whole.headers["ETag"] == f'"{artifact["sha256"]}"'
    assert whole.headers["Content-Type"] == "application/pdf"
    assert int(whole.headers["Content-Length"]) == artifact["bytes"]
    assert other.get(f"{job['links']['self']}/pages/1/image").content.startswith(b"\xff\xd8")
    assert http.get(f"{job['links']['self']}/log").text

    check_parts(other, f"{job['links']['self']}/pdf", whole)


def check_parts(http: httpx.Client, url: str, whole: httpx.Response) -> None:
    """Checks Range, If-Range, If-None-Match and HEAD, like for a file."""
    etag, size = whole.headers["ETag"], len(whole.content)

    def get(**headers: str) -> httpx.Response:
        return http.get(url, headers={name.replace("_", "-"): v for name, v in headers.items()})

    part = get(Range="bytes=100-199")
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{size}"
    end = get(Range="bytes=-7")
    assert (end.status_code, end.content) == (206, whole.content[-7:])
    beyond = get(Range=f"bytes={size}-")
    assert (beyond.status_code, beyond.json()["code"]) == (416, "range_not_satisfiable")
    assert beyond.headers["Content-Range"] == f"bytes */{size}"
    same = get(Range="bytes=0-9", If_Range=etag)
    assert (same.status_code, same.content) == (206, whole.content[:10])
    changed = get(Range="bytes=0-9", If_Range='"another"')
    assert (changed.status_code, changed.content) == (200, whole.content)
    assert get(If_None_Match=etag).status_code == 304
    head = http.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["Content-Length"]) == size


def test_a_result_that_was_changed_in_the_bucket_is_not_sent(
    site: Site, http: httpx.Client
) -> None:
    job = wait_for_end(http, submit(http, ("a.pdf", documents.scan("something"))).json())
    name = next(n for n in site.bucket.objects() if job["id"] in n and n.endswith("result.pdf"))
    content = site.bucket.path(name).read_bytes()
    site.bucket.path(name).write_bytes(content[:-1] + b"X")

    spoilt = http.get(f"{job['links']['self']}/pdf")

    assert (spoilt.status_code, spoilt.json()["code"]) == (500, "result_corrupt")
    assert http.get(f"{job['links']['self']}/text").status_code == 200


def test_another_host_takes_over_from_a_dead_one_with_the_finished_pages(
    site: Site, http: httpx.Client, other: httpx.Client
) -> None:
    job = submit(http, pages(8), title="fault: gate 3,4,5,6,7,8").json()
    seen = wait_until(lambda: done(other, job) == [1, 2] and done(other, job))
    assert TEXT in other.get(f"{job['links']['self']}/pages/{seen[0]}/text").text
    assert http.get(job["links"]["self"]).json()["state"] == "running"
    host = site.owner(job)

    site.kill(host)
    try:
        kept = set(done(other, job))
        written = {
            name: site.bucket.path(name).stat().st_mtime_ns
            for name in site.of(job)
            if name.endswith("/page.json") and int(name.split("/")[-2]) in kept
        }
        assert len(written) == 2
        site.open_gate(job, "worker-2" if host == "worker-1" else "worker-1")
        ended = wait_for_end(http, job)
        assert ended["attempt"] == 2
        check_left(site, host, job)
        assert kept <= set(done(other, job))
        # Finished pages were not processed again: the log covers both runs.
        log = http.get(f"{job['links']['self']}/log").text
        assert log.count("Starting processing") == 2
        assert {name: site.bucket.path(name).stat().st_mtime_ns for name in written} == written
    finally:
        site.start(host, "worker")
        wait_until(lambda: len(site.store.keys("ocr:worker:*")) >= 2, 240)
    # The files that the lost worker left are deleted when its host is back.
    wait_until(lambda: not scratch(site, job))
    check_whole(site, other, ended)


def check_left(site: Site, host: str, job: dict[str, Any]) -> None:
    """Checks that only the host that died still has scratch files of the job."""
    assert [path.parents[2].name for path in scratch(site, job)] == [host]


def test_nothing_is_left_of_a_job_that_is_deleted_while_it_runs(
    site: Site, http: httpx.Client
) -> None:
    job = submit(http, pages(6), title="fault: gate 2,3,4,5,6").json()
    wait_until(lambda: done(http, job))

    assert http.delete(job["links"]["self"]).status_code == 204

    assert http.get(job["links"]["self"]).status_code == 410
    wait_until(lambda: not scratch(site, job))
    wait_until(lambda: not site.of(job))
    # Nothing is created later, either.
    other = wait_for_end(http, submit(http, PAGE).json())
    assert site.of(job) == []
    wait_until(lambda: is_settled(site.of(other)))
    assert http.delete(other["links"]["self"]).status_code == 204
    wait_until(lambda: not site.of(other))


def is_settled(names: list[str]) -> bool:
    """Returns whether the worker of a job with these objects does not change them any more.

    rclone may keep a file if two clients delete it at the same time.
    """
    ends = {name.rpartition("/")[2] for name in names}
    return "end.json" in ends and "text.txt" not in ends


def test_a_bucket_becomes_unavailable_and_available_again(site: Site, http: httpx.Client) -> None:
    job = submit(http, pages(12), title="fault: slow").json()
    ended = wait_for_end(http, submit(http, PAGE).json())
    wait_until(lambda: done(http, job))

    site.bucket.go()
    try:
        refused = submit(http, PAGE)
        assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
        assert int(refused.headers["Retry-After"]) > 0
        gone = http.get(f"{ended['links']['self']}/pdf")
        assert (gone.status_code, gone.json()["code"]) == (503, "storage_unavailable")
        assert http.get("/readyz").json()["missing"] == ["storage"]
        assert http.get(job["links"]["self"]).status_code == 200
        # All its pages are finished, but its end cannot be stored.
        wait_until(lambda: http.get(job["links"]["self"]).json()["state"] == "queued")
    finally:
        site.bucket.come()

    again = wait_for_end(http, job)
    assert again["attempt"] == 1  # its worker was never lost
    check_whole(site, http, again)
    wait_until(lambda: ready(http))
    assert wait_for_end(http, submit(http, PAGE).json())["state"] == "succeeded"


def test_jobs_are_restored_after_redis_lost_its_data(site: Site, http: httpx.Client) -> None:
    job = wait_for_end(http, submit(http, PAGE).json())
    site.store.flushall()
    wait_until(lambda: http.get(job["links"]["self"]).status_code == 200)
    # Its record is restored a moment earlier.
    assert wait_for_end(http, job)["state"] == "succeeded"
    assert TEXT in http.get(f"{job['links']['self']}/text").text


def test_failed_pages_are_processed_again(site: Site, http: httpx.Client) -> None:
    document = pages(3)
    job = wait_for_end(http, submit(http, document, title="fault: crash 2").json())
    assert [row["page"] for row in job["failed_pages"]] == [2]

    assert http.post(job["links"]["retry"]).status_code == 202
    ended = wait_for_end(http, job)

    assert [row["page"] for row in ended["failed_pages"]] == [2]
    assert set(done(http, job)) == {1, 3}


def test_no_secret_is_in_a_log_or_in_a_process_that_handles_documents(
    site: Site, http: httpx.Client
) -> None:
    wait_for_end(http, submit(http, PAGE).json())
    assert SECRET not in site.log()
    for host in ("worker-1", "worker-2"):
        for child in psutil.Process(site.hosts[host].pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                assert SECRET not in str(child.environ())


def test_a_document_is_processed_by_all_processes_of_one_host(
    site: Site, http: httpx.Client
) -> None:
    def helped() -> dict[str, int]:
        return {
            host: (site.folder / f"{host}.log").read_text().count("read_pages")
            for host in ("worker-1", "worker-2")
        }

    before = helped()
    document = pages(6)
    sent = submit(http, document, priority="bulk", title="fault: slow").json()
    host = wait_until(lambda: site.owner(sent) if done(http, sent) else None)
    check_whole(site, http, wait_for_end(http, sent))

    more = {name: count - before[name] for name, count in helped().items()}
    assert more[host] > 0
    assert [count for name, count in more.items() if name != host] == [0]
    queues = site.store.keys("ocr.pages*")
    assert all(site.store.ttl(queue) > 0 for queue in queues)


def test_features_that_need_a_shared_data_folder_are_refused(http: httpx.Client) -> None:
    refused = submit(http, PAGE, engine="swarm")
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_options")
    assert "data folder" in refused.json()["detail"]
