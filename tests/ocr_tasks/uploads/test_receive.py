"""Receiving uploads and parsing options, without a server."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_tasks import errors, options, settings
from ocr_tasks.sandbox import forkserver
from ocr_tasks.storage import layout
from ocr_tasks.uploads import receive
from ocr_tasks.uploads.receive import NAME_LENGTH, label
from tests import documents
from tests.conftest import DATA, wait_until

service = pytest.mark.usefixtures("service")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("scan.pdf", "scan.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\x\\scan.pdf", "scan.pdf"),
        ("tab\tbell\x07null\0.pdf", "tabbellnull.pdf"),
        ("line\r\nSet-Cookie: x=1", "lineSet-Cookie: x=1"),
        ("a\u202egpj.exe", "agpj.exe"),
        ("  .hidden. ", "hidden"),
        ("", "document"),
        ("/", "document"),
        ("e\u0301.pdf", "é.pdf"),
        ("x" * 300 + ".pdf", "x" * (NAME_LENGTH - 4) + ".pdf"),
        ("x" * 300, "x" * NAME_LENGTH),
    ],
)
def test_names_are_labels_that_can_be_displayed(name: str, shown: str) -> None:
    assert label([name]) == shown


@given(st.text(max_size=400))
def test_no_name_is_a_path_or_contains_control_characters(name: str) -> None:
    shown = label([name])

    assert 0 < len(shown) <= NAME_LENGTH
    assert "/" not in shown
    assert "\\" not in shown
    assert shown not in (".", "..")
    assert all(character.isprintable() or character.isspace() for character in shown)
    assert not any(ord(character) < 32 for character in shown)


FORMS = st.dictionaries(
    st.sampled_from([*options.JobOptions.model_fields, "plugins", ""]) | st.text(max_size=20),
    st.lists(st.text(max_size=50) | st.sampled_from(["true", "1", "eng", "1-3"]), min_size=1),
    max_size=6,
)


@given(FORMS)
def test_any_form_results_in_options_or_in_an_error(form: dict[str, list[str]]) -> None:
    try:
        chosen = options.parse(form)
    except errors.InvalidOptions:
        return
    assert options.from_dict(chosen.model_dump(mode="json")) == chosen
    chosen.for_ocrmypdf(10)


def test_an_empty_field_is_like_a_missing_one() -> None:
    assert options.parse({"title": [""], "optimize": [""]}) == options.parse({})


def test_page_ranges_are_resolved_for_the_document() -> None:
    chosen = options.parse({"pages": ["1-3, 7,9-end"]})

    assert chosen.page_numbers(12) == "1-3,7-7,9-12"
    chosen.check_pages(9)
    with pytest.raises(errors.InvalidOptions):
        chosen.check_pages(8)


def test_digits_of_a_title_stay_text() -> None:
    assert options.parse({"title": ["2024"], "author": ["true"]}).title == "2024"


@service
def test_a_document_is_received_into_the_folder_of_a_job() -> None:
    incoming = receive.start(None)
    content = documents.scan("one", "two")
    with incoming.open("../my scan.pdf") as file:
        file.write(content)

    received = receive.receive(incoming, options.parse({}))

    assert received.input.pages == 2
    assert received.input.name == "my scan.pdf"
    assert received.input.bytes == len(content)
    assert layout.job(received.job_id).input.read_bytes() == content
    assert not incoming.folder.exists()


@service
def test_a_check_that_exceeds_its_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_CHECK_MEMORY_BYTES", str(256 * 1024 * 1024))
    settings.clear()
    incoming = receive.start(None)
    with incoming.open("large.png") as file:
        file.write(documents.encoded(documents.picture("x", "RGBA", (9000, 9000)), "PNG"))

    with pytest.raises((errors.CheckFailed, errors.ImageInvalid)):
        receive.receive(incoming, options.parse({}))


@service
def test_a_check_that_exceeds_its_time_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_CHECK_SECONDS", "1")
    settings.clear()
    incoming = receive.start(None)
    incoming.open("a.pdf").close()
    (upload,) = incoming.folder.iterdir()
    upload.unlink()
    os.mkfifo(upload)  # a reader waits forever

    with pytest.raises(errors.CheckFailed, match="more than 1 seconds"):
        receive.receive(incoming, options.parse({}))
    wait_until(lambda: not children_of(forkserver._client))
    incoming.discard()
    assert not incoming.folder.exists()


@service
def test_the_forked_process_may_die(tmp_path: Path) -> None:
    received = []
    for _ in range(2):
        incoming = receive.start(None)
        with incoming.open("a.pdf") as file:
            file.write((DATA / "huckleberry-finn-p22.pdf").read_bytes())
        received.append(receive.receive(incoming, options.parse({})))
        assert forkserver._client._process
        forkserver._client._process.kill()
        forkserver._client._process.wait()

    assert [row.input.pages for row in received] == [1, 1]


def children_of(client: forkserver._Client) -> list[psutil.Process]:
    assert client._process
    return psutil.Process(client._process.pid).children()


@service
def test_child_processes_have_no_secrets() -> None:
    incoming = receive.start(None)
    with incoming.open("a.pdf") as file:
        file.write((DATA / "huckleberry-finn-p22.pdf").read_bytes())
    receive.receive(incoming, options.parse({}))

    assert forkserver._client._process
    known = psutil.Process(forkserver._client._process.pid).environ()
    assert known.keys() <= {"PATH", "LANG", "LC_CTYPE", "HOME"}


@service
def test_frames_are_counted_before_they_become_pages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OCR_MAX_PAGES", "20")
    settings.clear()
    frames = [documents.picture("x", "1", (40, 40)) for _ in range(200)]
    content = documents.encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    incoming = receive.start(None)
    with incoming.open("frames.tif") as file:
        file.write(content)

    with pytest.raises(errors.TooManyPages):
        receive.receive(incoming, options.parse({}))
    assert list(incoming.folder.glob("*.pdf")) == []


@service
def test_the_limits_of_an_upload_apply_while_it_is_received(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OCR_MAX_UPLOAD_BYTES", "2048")
    monkeypatch.setenv("OCR_MAX_FILES", "2")
    settings.clear()
    incoming = receive.start(None)
    first, second = incoming.open("a"), incoming.open("b")
    first.write(b"x" * 2000)

    with pytest.raises(errors.UploadTooLarge):
        second.write(b"x" * 100)
    with pytest.raises(errors.TooManyFiles):
        incoming.open("c")
    with pytest.raises(errors.UploadTooLarge):
        receive.start(10**9)
    incoming.discard()


@pytest.mark.parametrize(
    "text", ["", "..", "../x", "A" * 36, "2d6c6d1c-3f0a-4a63-9d0b-5a7d0f5d2a11\n"]
)
def test_only_valid_job_ids_lead_to_folders(text: str) -> None:
    with pytest.raises(ValueError, match="not a job id"):
        layout.job(text)


@pytest.mark.parametrize("text", ["", ".", "..", "../x", "/etc", "a/b", "a/"])
def test_only_names_of_runs_lead_to_their_folders(text: str) -> None:
    with pytest.raises(ValueError, match="not the name of a file"):
        layout.job(layout.new_id()).run(text)
