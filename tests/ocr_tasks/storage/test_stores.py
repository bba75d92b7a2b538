"""The bucket as a store of jobs, on a real S3 server. Most tests also apply to the folder."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from ocr_tasks import errors, settings
from ocr_tasks.jobs import leases, lifecycle, retention
from ocr_tasks.model import Artifact, State
from ocr_tasks.redis import connection, keys
from ocr_tasks.storage import layout, mirror, store
from ocr_tasks.storage.broker import Broker, RemoteObjects
from ocr_tasks.storage.bucket import BucketStore
from ocr_tasks.storage.s3 import ObjectInfo, Objects
from tests.bucket import SECRET, Bucket, serving
from tests.conftest import free_port, wait_until
from tests.ocr_tasks.jobs.test_lifecycle import INPUT, OUTCOME
from tests.ocr_tasks.jobs.test_retention import keep, make_old

MIB = 1024 * 1024
WHAT_RUNS_NEED = ("result.json", "ocr.hocr")
JOB = "0b0e0000-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with serving(tmp_path_factory.mktemp("s3")) as bucket:
        yield bucket


@pytest.fixture
def bucket(
    service: redis.Redis, server: Bucket, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bucket]:
    """Uses an empty bucket as the store of this process."""
    for name, value in server.settings.items():
        monkeypatch.setenv(name, value)
    settings.clear()
    store.use(None)
    server.requests.clear()
    yield server
    server.answer = None
    for job_id in list(store.get().jobs()):
        store.get().delete(job_id)
    store.use(None)


@pytest.fixture
def seen(bucket: Bucket) -> list[str]:
    """Returns the jobs for which `child` stored something."""
    return []


@pytest.fixture
def child(bucket: Bucket, seen: list[str]) -> Iterator[RemoteObjects]:
    """The bucket as child processes of a worker see it."""
    porter = Broker(Objects(settings.get()))
    porter.begin(seen.append)
    yield RemoteObjects(porter.children_end)
    porter.end()


@pytest.fixture(params=["main", "child"])
def kept(request: pytest.FixtureRequest, child: RemoteObjects) -> BucketStore:
    """The store of a worker's main process, and that of its child processes."""
    return BucketStore(child if request.param == "child" else Objects(settings.get()))


def submit_in_bucket() -> str:
    upload = layout.new_upload()
    (upload / "input.pdf").write_bytes(b"%PDF-1.7 the document")
    job_id = layout.new_id()
    store.get().adopt(upload, job_id)
    return lifecycle.submit(job_id, INPUT, lifecycle.JobOptions(languages=["eng"])).id


@pytest.mark.usefixtures("bucket")
def test_the_end_of_a_job_that_was_deleted_meanwhile_writes_nothing() -> None:
    kept_job, deleted = submit_in_bucket(), submit_in_bucket()
    lifecycle.delete(deleted)

    for job_id in (kept_job, deleted):
        store.write_end(job_id, "succeeded", {})

    assert store.get().read(kept_job, "end.json") == b'{"state": "succeeded", "result": {}}'
    assert not store.get().has(deleted, "end.json")


def test_small_files_are_written_read_found_and_deleted(kept: BucketStore) -> None:
    assert kept.read(JOB, "job.json") is None
    assert not kept.has(JOB, "job.json")
    kept.write(JOB, "job.json", b"{}")
    kept.write(JOB, "pages/000001/page.json", b"page")

    assert kept.read(JOB, "job.json") == b"{}"
    assert kept.has(JOB, "job.json")
    assert kept.has(JOB, "pages/")
    assert not kept.has(JOB, "runs/")
    assert kept.size(JOB, "pages/") == 4
    assert kept.size(JOB, "") == 6
    assert 0 <= kept.age(JOB) < 60
    kept.remove(JOB, "pages/", "end.json")
    assert kept.size(JOB, "") == 2
    kept.remove(JOB, "job.json")
    assert kept.age(JOB) == 0
    assert kept.size(JOB, "job.json") == 0


def test_the_mark_of_a_page_is_stored_before_its_process_ends(
    kept: BucketStore, bucket: Bucket
) -> None:
    kept.write(JOB, "input.pdf", b"%PDF-")
    mark = layout.job(JOB).page(7) / layout.PAGE_TOO_SLOW
    with kept.at_work(JOB) as files:
        mark.parent.mkdir(parents=True)
        mark.write_bytes(b"{}")
        files.store_now(7)
        assert f"jobs/0b/{JOB}/pages/000007/{layout.PAGE_TOO_SLOW}" in bucket.objects()

    with kept.at_work(JOB):
        assert mark.read_bytes() == b"{}"


def test_a_run_downloads_finished_pages_and_uploads_its_own(
    kept: BucketStore, bucket: Bucket
) -> None:
    kept.write(JOB, "input.pdf", b"%PDF-")
    folder = layout.job(JOB)

    def run_that_fails() -> None:
        with kept.at_work(JOB) as files:
            for number in (1, 2, 3):
                folder.page(number).mkdir(parents=True)
                for name in ("page.json", "preview.jpg", "ocr.hocr", "result.json"):
                    (folder.page(number) / name).write_bytes(f"{number} {name}".encode())
                (folder.page(number) / "summary.json").write_bytes(b'{"source":"ocr"}')
            (folder.page(3) / "result.json").unlink()  # it was not finished
            folder.log.write_bytes(b"so far\n")
            folder.run("first").mkdir(parents=True)
            (folder.run("first") / "result.json").write_bytes(b"half")
            files.page_stored(1)
            raise errors.PageFailed

    with pytest.raises(errors.PageFailed):
        run_that_fails()
    assert not folder.path.exists()
    assert f"jobs/0b/{JOB}/runs/first/result.json" not in bucket.objects()
    assert kept.summaries(JOB, 3) == {number: {"source": "ocr"} for number in (1, 2, 3)}
    kept.remove(JOB, "pages/summaries.json")  # as in a folder
    assert kept.summaries(JOB, 3) == {number: {"source": "ocr"} for number in (1, 2, 3)}

    with kept.at_work(JOB) as files:
        assert folder.input.read_bytes() == b"%PDF-"
        assert folder.log.read_bytes() == b"so far\n"
        assert (folder.page(2) / "ocr.hocr").read_bytes() == b"2 ocr.hocr"
        assert not (folder.page(1) / "preview.jpg").exists()
        assert not folder.page(3).exists()
        folder.run("second").mkdir(parents=True)
        for ending in ("txt", "json"):
            (folder.run("second") / f"result.{ending}").write_bytes(b"text")
        for number in (1, 2):
            (folder.page(number) / "result.json").unlink()
            (folder.page(number) / "ocr.hocr").unlink()
    assert kept.has(JOB, "pages/000001/result.json")
    files.settle()

    names = {name.removeprefix(f"jobs/0b/{JOB}/") for name in bucket.objects()}
    pages = {f"pages/00000{n}/{name}" for n in (1, 2) for name in ("page.json", "preview.jpg")}
    assert names >= {"input.pdf", "log.txt", "runs/second/result.txt"} | pages
    assert not names & {f"pages/00000{n}/{name}" for n in (1, 2) for name in WHAT_RUNS_NEED}
    with kept.at_work(JOB):
        assert "runs/second/result.txt" not in {
            name.removeprefix(f"jobs/0b/{JOB}/") for name in bucket.objects()
        }


def artifact(kept: BucketStore, content: bytes) -> Artifact:
    kept.write(JOB, "runs/run/result.pdf", content)
    return Artifact("pdf", "application/pdf", len(content), hashlib.sha256(content).hexdigest())


def test_a_result_is_sent_in_chunks_and_in_ranges(bucket: Bucket) -> None:
    kept = store.get()
    assert isinstance(kept, BucketStore)
    content = os.urandom(3 * MIB + 5)
    made = artifact(kept, content)
    stored = kept.open_artifact(JOB, "run", made)

    assert (stored.size, stored.etag) == (len(content), made.sha256)
    chunks = list(stored.chunks(0, stored.size))
    assert b"".join(chunks) == content
    assert max(map(len, chunks)) < MIB
    assert b"".join(stored.chunks(MIB - 3, 2 * MIB + 3)) == content[MIB - 3 : 2 * MIB + 3]


@pytest.mark.parametrize("checked_first", [32 * MIB, 0])
def test_a_changed_result_is_not_sent(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, checked_first: int
) -> None:
    monkeypatch.setattr("ocr_tasks.storage.bucket._CHECKED_FIRST", checked_first)
    kept = store.get()
    assert isinstance(kept, BucketStore)
    made = artifact(kept, b"as it was made")
    artifact(kept, b"as it was MADE")

    with pytest.raises(errors.ResultCorrupt):
        b"".join(kept.open_artifact(JOB, "run", made).chunks(0, made.bytes))

    artifact(kept, b"shorter")
    with pytest.raises(errors.ResultCorrupt):
        kept.open_artifact(JOB, "run", made)
    kept.remove(JOB, "runs/")
    with pytest.raises(errors.ResultGone):
        kept.open_artifact(JOB, "run", made)


def test_a_large_document_is_uploaded_unchanged(kept: BucketStore, tmp_path: Path) -> None:
    upload = layout.new_upload()
    content = os.urandom(MIB) * 20
    (upload / "input.pdf").write_bytes(content)

    kept.adopt(upload, JOB)

    assert not upload.exists()
    with kept.at_work(JOB):
        assert layout.job(JOB).input.read_bytes() == content


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((403, "SignatureDoesNotMatch"), errors.StorageUnavailable),
        ((404, "NoSuchBucket"), errors.StorageUnavailable),
        ((507, "XMinioStorageFull"), errors.StorageFull),
        ((403, "QuotaExceeded"), errors.StorageFull),
    ],
)
def test_a_refusal_of_the_server_is_reported_with_its_code_and_without_secrets(
    bucket: Bucket, kept: BucketStore, answer: tuple[int, str], error: type[errors.ServiceError]
) -> None:
    bucket.answer = answer
    with pytest.raises(error) as found:
        kept.check_writable()
    assert SECRET not in str(found.value)
    assert "127.0.0.1" not in str(found.value)
    with pytest.raises(error):
        kept.write(JOB, "job.json", b"{}")


def test_a_wrong_key_is_reported(bucket: Bucket) -> None:
    wrong = settings.get().model_copy(update={"s3_secret_access_key": "another"})
    assert "another" not in repr(wrong)
    with pytest.raises(errors.StorageUnavailable, match="PermissionDenied"):
        BucketStore(Objects(wrong)).check_writable()


def test_an_unavailable_server_is_reported(bucket: Bucket) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    away = settings.get().model_copy(update={"s3_endpoint": nowhere})
    with pytest.raises(errors.StorageUnavailable):
        BucketStore(Objects(away)).check_space()


def test_a_child_process_may_transfer_only_files_of_jobs(
    bucket: Bucket, child: RemoteObjects
) -> None:
    for name in ("job.json", f"jobs/0b/{JOB}/../../x", "jobs/0b/x/y", f"jobs/0b/{JOB}/.probe"):
        with pytest.raises(errors.StorageUnavailable):
            child.put(name, b"")
        with pytest.raises(errors.StorageUnavailable):
            child.delete([name])
    read, write = os.pipe()
    with os.fdopen(read, "rb") as pipe, pytest.raises(errors.StorageUnavailable):
        child.put(f"jobs/0b/{JOB}/job.json", pipe)
    os.close(write)
    assert bucket.objects() == []


def test_jobs_with_stored_files_are_tracked(child: RemoteObjects, seen: list[str]) -> None:
    child.put(f"jobs/0b/{JOB}/job.json", b"{}")
    assert child.read(f"jobs/0b/{JOB}/job.json") == b"{}"
    wait_until(lambda: seen == [JOB])


# The life cycle of a job


def test_a_job_that_redis_lost_is_restored_from_the_bucket(
    bucket: Bucket, service: redis.Redis
) -> None:
    waiting, ended = submit_in_bucket(), submit_in_bucket()
    leases.acquire(ended, "run", "host:1:2")
    leases.commit(ended, "run", OUTCOME)
    service.flushall()
    swept = retention.Swept()

    retention.sweep(swept)

    assert swept.restored == 2
    assert lifecycle.read(waiting).state is State.QUEUED
    assert lifecycle.read(ended).outcome == OUTCOME


def test_deleting_a_job_deletes_its_objects(bucket: Bucket) -> None:
    job_id = submit_in_bucket()
    assert bucket.objects()
    lifecycle.delete(job_id)
    assert bucket.objects() == []


def test_what_another_client_uploads_meanwhile_is_deleted_too(
    kept: BucketStore, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = kept.objects
    delete = objects.delete
    late = ["end.json", "log.txt"]

    def delete_and_upload(names: Sequence[str]) -> None:
        delete(names)
        if late:
            kept.write(JOB, late.pop(), b"late")

    kept.write(JOB, "job.json", b"{}")
    monkeypatch.setattr(objects, "delete", delete_and_upload)
    kept.delete(JOB)

    assert not late
    assert bucket.objects() == []


def test_a_file_that_disappears_during_its_upload_does_not_stop_the_others(
    kept: BucketStore,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(mirror, "_RETRY_SECONDS", 0.05)
    names = mirror.Mirror._names
    page = layout.job(JOB).page(1)
    kept.write(JOB, "input.pdf", b"%PDF-")
    with kept.at_work(JOB) as files:
        page.mkdir(parents=True)
        (page / "page.json").write_bytes(b"words")
        missing = str((page / "gone.json").relative_to(layout.job(JOB).path))
        monkeypatch.setattr(mirror.Mirror, "_names", lambda *_: [missing])
        files.page_stored(1)
        wait_until(lambda: "cannot upload pages" in caplog.text)
        monkeypatch.setattr(mirror.Mirror, "_names", names)
        wait_until(lambda: f"jobs/0b/{JOB}/pages/000001/page.json" in bucket.objects())


def test_a_job_that_is_deleted_while_the_bucket_is_unavailable_is_deleted_later(
    bucket: Bucket,
) -> None:
    job_id = submit_in_bucket()
    bucket.answer = (403, "AccessDenied")
    lifecycle.delete(job_id)
    bucket.answer = None
    assert bucket.objects()
    swept = retention.Swept()

    retention.sweep(swept)

    assert (swept.leftovers, bucket.objects()) == (1, [])
    assert swept.bytes > 0


def test_expired_files_are_deleted_once_the_bucket_is_available(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(monkeypatch, inputs=1, results=0, jobs=0)
    job_id = submit_in_bucket()
    lifecycle.cancel(job_id)
    connection.client().zadd(keys.ENDED_WITH_INPUT, {job_id: connection.now() - 10}, xx=True)
    bucket.answer = (403, "AccessDenied")
    with pytest.raises(errors.StorageUnavailable):
        retention.expire(retention.Swept())
    bucket.answer = None
    swept = retention.Swept()

    retention.expire(swept)

    assert (swept.inputs, store.get().has(job_id, "input.pdf")) == (1, False)
    with pytest.raises(errors.ResultGone):
        lifecycle.retry(job_id)


def test_the_scratch_space_of_dead_runs_on_this_host_is_deleted(bucket: Bucket) -> None:
    over, running, stale = submit_in_bucket(), submit_in_bucket(), submit_in_bucket()
    lifecycle.cancel(over)
    for job_id, seconds in ((over, 600), (running, 600), (stale, 7200)):
        layout.job(job_id).path.mkdir(parents=True)
        make_old(layout.job(job_id).path, seconds)
    swept = retention.Swept()

    retention.sweep_host(swept)

    assert swept.leftovers == 2
    left = [job_id for job_id in (over, running, stale) if layout.job(job_id).path.exists()]
    assert left == [running]
    assert all(store.get().has(job_id, "input.pdf") for job_id in (over, running, stale))


def test_a_request_ends_although_another_child_was_forked_meanwhile(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forked child inherits all file descriptors that its parent has open at that moment."""
    born_with: list[int] = []
    objects = Objects(settings.get())
    find = objects.find

    def find_at_a_birth(name: str) -> ObjectInfo | None:
        for number in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
            with suppress(OSError):
                if stat.S_ISSOCK(os.fstat(number).st_mode):
                    born_with.append(os.dup(number))
        return find(name)

    monkeypatch.setattr(objects, "find", find_at_a_birth)
    porter = Broker(objects)
    porter.begin(lambda job_id: None)
    child = RemoteObjects(porter.children_end)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(child.find, f"jobs/{JOB[:2]}/{JOB}/job.json")
        try:
            assert asked.result(30) is None
            assert born_with
        finally:
            for number in born_with:
                os.close(number)
    porter.end()
