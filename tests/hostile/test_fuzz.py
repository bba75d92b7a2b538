"""Random forms and files cause neither a 500 nor an unexpected exception."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from ocr_tasks import errors
from ocr_tasks.options import JobOptions
from ocr_tasks.sandbox import forkserver
from tests import documents
from tests.hostile import files
from tests.ocr_tasks.uploads.test_images import HEIC, gradient
from web.app import create_app

#: The number of examples of each kind: a few in each run, many in `make test-all`.
EXAMPLES = pytest.mark.parametrize("examples", [3, pytest.param(60, marks=pytest.mark.slow)])


def bounded(examples: int) -> settings:
    """Limits the examples and the time; failing examples are not minimized."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def animation() -> bytes:
    frames = [gradient("P", (40, 30)) for _ in range(3)]
    return documents.encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


WHOLE = {
    "PDF": documents.scan("one", "two"),
    "PDF-with-object-streams": documents.saved(
        files.with_text("text"), object_stream_mode=files.pikepdf.ObjectStreamMode.generate
    ),
    "signed-PDF": documents.signed(),
    "PDF-of-forms": files.laughing_forms(3, 3),
    "JPEG": documents.encoded(gradient(), "JPEG"),
    "PNG": documents.encoded(gradient("P"), "PNG"),
    "TIFF": documents.encoded(gradient("1"), "TIFF", compression="group4"),
    "TIFF-of-frames": files.tiff_of(5),
    "WebP": documents.encoded(gradient(), "WEBP"),
    "GIF": animation(),
    "BMP": documents.encoded(gradient(), "BMP"),
    "JPEG-2000": documents.encoded(gradient(), "JPEG2000"),
    "HEIC": HEIC,
}

#: Changes, each a position as a fraction of the file and a new byte; and the fraction to keep.
DAMAGE = st.tuples(
    st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=20
    ),
    st.floats(0.2, 1),
)
CODES = {error.code for error in errors.by_code().values() if issubclass(error, errors.UploadError)}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Returns an empty folder for an upload, below a data folder."""
    path = tmp_path / "data" / "uploads" / "x"
    path.mkdir(parents=True)
    yield path
    shutil.rmtree(path)


def asked(folder: Path, content: bytes) -> dict[str, Any]:
    """Returns the result of the check of a file."""
    for left in folder.iterdir():
        left.unlink()
    (folder / "upload-00001").write_bytes(content)
    order = {
        "files": 1,
        "image_dpi": None,
        "allow_signed": False,
        "max_pages": 100,
        "max_page_inches": 120,
        "max_image_megapixels": 10,
        "sandbox": {
            "data_dir": str(folder.parent.parent),
            "confine_files": True,
            "cpu_seconds": 20,
            "memory_bytes": 1 << 30,
            "file_bytes": 1 << 28,
        },
    }
    return forkserver.request(order, folder, 30)


@EXAMPLES
@pytest.mark.parametrize("name", WHOLE)
def test_a_damaged_file_is_accepted_or_refused(
    folder: Path, tally: Any, name: str, examples: int
) -> None:
    """Any result is one of this project; `NoAnswer` would mean that the check itself crashed."""

    @bounded(examples)
    @given(DAMAGE)
    def check(damage: tuple[list[tuple[float, int]], float]) -> None:
        tally.tried += 1
        changes, kept = damage
        content = bytearray(WHOLE[name])
        for place, value in changes:
            content[int(place * len(content))] = value
        answer = asked(folder, bytes(content[: int(kept * len(content))]))
        accepted = {"pages", "media_type", "warnings"}
        assert answer.get("code") in CODES or answer.keys() == accepted, answer

    check()


NAMES = st.sampled_from([*JobOptions.model_fields, "callback_url", "file", "plugins"])
VALUES = st.one_of(
    st.text(max_size=60),
    st.sampled_from(
        ["true", "0", "-1", "NaN", "1-3", "eng", "eng+deu", "x" * 2000, "\0", "\ud800"]
    ),
    st.integers().map(str),
    st.floats().map(str),
)
FORMS = st.lists(st.tuples(NAMES | st.text(max_size=20), VALUES), max_size=6)


@EXAMPLES
def test_any_form_is_accepted_or_refused(service: Any, tally: Any, examples: int) -> None:
    client = create_app().test_client()
    picture = documents.encoded(Image.new("1", (40, 40)), "PNG")

    @bounded(examples)
    @given(FORMS)
    def check(form: list[tuple[str, str]]) -> None:
        tally.tried += 1
        data: dict[str, Any] = {"file": (io.BytesIO(picture), "a.png")}
        for name, value in form:
            if name != "file":
                data.setdefault(name, []).append(value.encode("utf-8", "replace").decode())
        answer = client.post("/v1/jobs", data=data, headers={"Host": "localhost"})
        assert answer.status_code in (202, 400, 413, 422), answer.text
        if answer.status_code != 202:
            assert answer.get_json()["code"] in errors.by_code()

    check()
