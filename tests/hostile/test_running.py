"""Documents and parsers that crash, hang or use all resources affect only their own job.

Cases 21 to 30 of docs/explanation/untrusted-input.md that are accepted as jobs, and engines that
misbehave as the title of a document requests (tests/plugins/faults).
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import documents
from tests.conftest import Stack, matching, running_stack, submit, wait_for_end, wait_until
from tests.hostile import files
from tests.hostile.outcomes import assert_nothing_is_left, code, folder_of, readers

pytestmark = pytest.mark.acceptance

GIB = 1 << 30
FAULTS = "tests.plugins.faults"
SCAN = ("scan.pdf", documents.scan("hostile"))
NEIGHBOUR = ("neighbour.pdf", documents.scan("neighbour"))

#: Errors of a job that exceeded a limit. Which limit is reached first depends on the machine.
TOO_MUCH = {"job_timeout", "job_out_of_memory", "worker_lost", "all_pages_failed"}


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Runs six processes with low limits.

    The time limit is long enough for other documents on a busy machine.
    """
    with running_stack(
        tmp_path_factory.mktemp("bounded"),
        OCR_PLUGINS=FAULTS,
        OCR_WORKER_PROCESSES="6",
        OCR_WORKER_MEMORY_BYTES=str(GIB),
        OCR_JOB_SECONDS="20",
        OCR_LOSSES_MAX="2",
    ) as running:
        yield running


@pytest.fixture
def http(bounded: Stack) -> Iterator[httpx.Client]:
    with bounded.client() as client:
        yield client


def end_beside_a_neighbour(
    stack: Stack, http: httpx.Client, file: tuple[str, bytes], **options: str
) -> dict[str, Any]:
    """Returns the error code of a hostile job; a concurrent job and the next one must succeed."""
    answer = submit(http, file, **options)
    assert answer.status_code == 202, answer.text
    neighbour = submit(http, NEIGHBOUR).json()
    ended = wait_for_end(http, answer.json())
    assert wait_for_end(http, neighbour)["state"] == "succeeded"
    assert_nothing_is_left(stack, http, ended)
    return ended


# Misbehaving libraries and programs


@pytest.mark.parametrize("fault", ["segfault", "abort"])
def test_a_library_that_crashes(bounded: Stack, http: httpx.Client, fault: str) -> None:
    ended = end_beside_a_neighbour(bounded, http, SCAN, title=f"fault: {fault}")

    assert code(ended) == "worker_lost"


def test_a_library_that_takes_all_memory(bounded: Stack, http: httpx.Client) -> None:
    ended = end_beside_a_neighbour(bounded, http, SCAN, title="fault: hoard")

    assert code(ended) == "job_out_of_memory"


def test_a_file_that_grows_without_limit(bounded: Stack, http: httpx.Client) -> None:
    ended = end_beside_a_neighbour(bounded, http, SCAN, title="fault: flood")

    assert code(ended) == "job_file_too_large"


@pytest.fixture(scope="module")
def hung(bounded: Stack) -> dict[str, dict[str, Any]]:
    """Returns the ends of documents that exceed the time limit in different places, all at once.

    A normal document is processed at the same time.
    """
    long = ("long.pdf", documents.scan(*["long"] * 60))
    with bounded.client() as http:
        jobs = {
            fault: submit(http, SCAN, title=f"fault: {fault}").json()
            for fault in ("hang", "deaf", "stuck", "draw")
        }
        jobs["slow"] = submit(http, long, title="fault: slow").json()
        jobs["neighbour"] = submit(http, NEIGHBOUR).json()
        return {name: wait_for_end(http, job) for name, job in jobs.items()}


@pytest.mark.parametrize(
    "where",
    ["hang", "deaf", "stuck", "draw", "slow"],
    ids=["program", "program-deaf-to-SIGTERM", "library", "drawing", "many-pages"],
)
def test_what_exceeds_the_time_limit_is_ended_with_its_job(
    bounded: Stack, http: httpx.Client, hung: dict[str, dict[str, Any]], where: str
) -> None:
    assert code(hung[where]) == "job_timeout"
    assert hung["neighbour"]["state"] == "succeeded"
    assert_nothing_is_left(bounded, http, hung[where])


@pytest.mark.xdist_group("single")
def test_a_process_in_which_tesseract_continues_to_compute_is_replaced(single: Stack) -> None:
    """It is replaced after its job, and a job that waits for this process is not lost."""
    seen = len(single.log.read_text())
    with single.client() as http:
        (before,) = wait_until(lambda: readers(single))
        hostile = submit(http, SCAN, title="fault: overrun").json()
        waiting = [submit(http, NEIGHBOUR).json() for _ in range(4)]

        assert code(wait_for_end(http, hostile)) == "all_pages_failed"
        for job in waiting:
            assert wait_for_end(http, job)["state"] == "succeeded"
        assert before not in readers(single)
        assert "died; job" not in single.log.read_text()[seen:]
        page = http.get(f"{hostile['links']['self']}/pages").json()["pages"][0]
        assert page["state"] in ("failed", "waiting")


# Documents that use too many resources

BOMBS: dict[str, tuple[Callable[[], bytes], set[str]]] = {
    "case-23-unpacks-to-1-GiB": (
        lambda: files.bomb_in_image(GIB),
        {"succeeded", *TOO_MUCH},
    ),
    "case-23-PNG-unpacks-to-1-GiB": (
        lambda: files.png_with(files.packed(b"\0" * files.MIB, 1024), 100, 100),
        {"succeeded", *TOO_MUCH},
    ),
    "case-23-inline-image-of-10-gigapixels": (
        lambda: files.huge_inline_image(100_000, 100_000),
        {"input_unsupported", *TOO_MUCH},
    ),
    "case-24-many-pixels-on-one-point": (
        lambda: files.dense_image(2950, 1, (0, 0, 1, 1)),
        {"succeeded", "input_unsupported", *TOO_MUCH},
    ),
    "case-24-dense-image-on-a-large-page": (
        lambda: files.dense_image(1000, 0.01, (0, 0, 7200, 7200)),
        {"succeeded", "input_unsupported", *TOO_MUCH},
    ),
    "case-26-forms-that-laugh": (lambda: files.laughing_forms(10, 10), TOO_MUCH),
    "case-26-form-in-itself": (files.form_in_itself, {"succeeded"}),
    "case-26-six-million-fills": (lambda: files.many_fills(6_000_000), TOO_MUCH),
    "case-27-content-of-2-GiB": (
        lambda: files.long_content(2 * GIB),
        {"input_unsupported", *TOO_MUCH},
    ),
}


#: One of cases 23, 24 and 26 for every run; the others take up to OCR_JOB_SECONDS of a core.
QUICK = {
    "case-23-PNG-unpacks-to-1-GiB",
    "case-24-many-pixels-on-one-point",
    "case-26-form-in-itself",
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in BOMBS],
)
def test_a_decompression_bomb(bounded: Stack, http: httpx.Client, name: str) -> None:
    make, ends = BOMBS[name]
    ended = end_beside_a_neighbour(bounded, http, (f"{name}.pdf", make()))

    assert code(ended) in ends


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_page_that_takes_too_long_to_draw_costs_only_itself(
    processes: int, tmp_path: Path
) -> None:
    """PDFium cannot be interrupted: its process ends, and the next run leaves the page alone."""
    limits = {"OCR_PAGE_SECONDS": "10", "OCR_WORKER_PROCESSES": str(processes)}
    with running_stack(tmp_path, **limits) as impatient, impatient.client() as http:
        job = submit(http, ("slow.pdf", files.slow_to_draw())).json()

        ended = wait_for_end(http, job)

        assert ended["state"] == "succeeded"
        failed = [(page["page"], page["code"]) for page in ended["failed_pages"]]
        assert failed == [(2, "page_timeout")]
        text = http.get(f"/v1/jobs/{job['id']}/text").text
        assert [word for word in ("garden", "harbour") if word not in text] == []
        assert "\nocr_job_takeovers_total 0" in http.get("/metrics").text
        assert_nothing_is_left(impatient, http, ended)


def test_case_25_pages_that_share_an_image_can_be_cancelled(
    bounded: Stack, http: httpx.Client
) -> None:
    """Pixels are not limited over all pages: 3000 pages are accepted, even in a small file."""
    job = submit(http, ("shared.pdf", files.shared_image(3000, 600))).json()
    wait_until(lambda: http.get(job["links"]["self"]).json()["state"] == "running")

    assert http.post(job["links"]["cancel"]).status_code == 200
    assert code(wait_for_end(http, job)) == "job_cancelled"
    assert_nothing_is_left(bounded, http, job)


# Documents with false declarations


@pytest.mark.parametrize(("said", "texts"), [(9, ("alpha",)), (1, ("alpha", "bravo", "charlie"))])
def test_case_21_the_number_of_pages_is_counted(
    bounded: Stack, http: httpx.Client, said: int, texts: tuple[str, ...]
) -> None:
    """/Count is ignored; all pages are processed with their own numbers."""
    job = submit(http, ("a.pdf", files.lying_count(said, *texts))).json()
    assert job["input"]["pages"] == len(texts)

    ended = wait_for_end(http, job)

    assert (code(ended), ended["failed_pages"]) == ("succeeded", [])
    for number, text in enumerate(texts, start=1):
        assert text in http.get(f"{job['links']['self']}/pages/{number}/text").text


def leaf(entries: bytes) -> bytes:
    """Returns a document of one page with these entries."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        b"<< /Type /Page /Parent 2 0 R %s >>" % entries,
    ]
    return documents.assembled(b"%PDF-1.7\n", objects)


@pytest.mark.parametrize(
    "box",
    [
        b"",
        b"/MediaBox [0 0 0 0]",
        b"/MediaBox [0 0 -90 -90]",
        b"/MediaBox [0 0 90]",
        b"/MediaBox [(a) /b [] << >>]",
        b"/MediaBox 7 /CropBox [0 0 1000000 1000000]",
        b"/MediaBox [0 0 72 72] /Rotate 45",
        b"/MediaBox [0 0 72 72] /UserUnit (x) /Contents [ 1 0 R 99 0 R ]",
        b"/MediaBox [0 0 72 72] /Resources [1] /Annots 5",
    ],
)
def test_case_22_pages_of_an_invalid_size_are_refused_or_end(
    bounded: Stack, http: httpx.Client, box: bytes
) -> None:
    answer = submit(http, ("a.pdf", leaf(box)))
    if answer.status_code == 422:
        assert answer.json()["code"] in ("pdf_invalid", "page_too_large")
    else:
        ended = wait_for_end(http, answer.json())
        assert code(ended) in ("succeeded", "input_unsupported", "tool_failed", "all_pages_failed")


# Active documents


@contextlib.contextmanager
def listener() -> Iterator[socket.socket]:
    """A port that must not get a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        yield server


@pytest.mark.parametrize("make", [files.active, files.metadata], ids=["case-28", "T12-XMP"])
def test_a_document_opens_no_connection_runs_nothing_and_reads_no_other_file(
    bounded: Stack, http: httpx.Client, tmp_path: Path, make: Callable[[str, int], bytes]
) -> None:
    """Scripts, launch actions, links, data in other files; entities in its metadata."""
    canary = tmp_path / "canary"
    canary.write_text("BT /F1 24 Tf 72 700 Td (canary-of-the-operator) Tj ET")
    with listener() as server:
        content = make(str(canary), server.getsockname()[1])
        ended = wait_for_end(http, submit(http, ("active.pdf", content)).json())
        with pytest.raises(TimeoutError):
            server.accept()

    assert code(ended) == "succeeded"
    assert list(tmp_path.iterdir()) == [canary]
    link = ended["links"]["self"]
    for name in ("pdf", "text", "hocr", "alto", "json"):
        assert b"canary-of-the-operator" not in http.get(f"{link}/{name}").content
    assert "canary-of-the-operator" not in http.get(f"{link}/log").text
    assert not matching(folder_of(bounded, ended), "**/*.touched")


@pytest.mark.parametrize(
    ("content", "mode", "end"),
    [
        (documents.saved(files.with_text("prior")), "refuse", "prior_text"),
        (documents.saved(files.with_text("prior")), "skip", "succeeded"),
        (files.tagged(), "refuse", "prior_text"),
        (files.tagged(), "skip", "succeeded"),
    ],
    ids=["text-refused", "text-kept", "tagged-refused", "tagged-kept"],
)
def test_case_30_existing_text(http: httpx.Client, content: bytes, mode: str, end: str) -> None:
    ended = wait_for_end(http, submit(http, ("text.pdf", content), mode=mode).json())

    assert code(ended) == end
