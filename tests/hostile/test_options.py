"""Cases 37 to 44 and threat T13: options. Numbers as in untrusted-input.md."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from ocr_tasks.options import JobOptions
from tests import documents
from tests.conftest import submit
from tests.hostile.outcomes import refused

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("hostile")]
leaves_nothing = pytest.mark.usefixtures("nothing_is_left")

PNG = documents.encoded(documents.picture("picture"), "PNG", dpi=(150, 150))

#: Cases 39 to 41 and 43: for each option, values that must be refused.
OPTIONS = {
    "languages": [
        *("../../x", "../../../../tmp/evil", "/etc/passwd", "e", "x" * 40, "osd", "equ"),
        *(
            "eng+../y",
            "a b;c",
            "eng --psm 0",
            "eng\0",
            "script/../x",
            "+".join(["eng"] * 9 + ["x"]),
        ),
        "+".join(f"l{n:02}" for n in range(50)),
    ],
    "mode": ["default", "SKIP", "1", "skip redo", "force\n"],
    "rotate_pages": ["perhaps", "2"],
    "deskew": ["yes please"],
    "clean": ["-1", "--layout=none"],
    "remove_background": ["nil"],
    "output_type": ["pdfa-1", "none", "docx", "../pdf"],
    "optimize": ["4", "-1", "1.5", "NaN", "true", "1e0", "٣"],
    "pages": [
        *(
            "0",
            "5-1",
            "1-20000000",
            "x",
            "1;2",
            "1-",
            "-",
            "-1",
            "1--2",
            "1," * 5000,
            "7",
            "99-end",
        ),
        *("9" * 8, "end", "end-1", "1.5", "0x1", "²", "1\n2"),
    ],
    "page_segmentation": ["0", "2", "14", "auto", "-1"],
    "image_dpi": ["0", "-1", "1000000000", "NaN", "inf", "1e3x", "true", "2401", "29"],
    "title": ["nul\0", "line\nbreak", "x" * 10_000, "😀", "\ud83d"[:0] + "\ue000"],
    "author": ["\x1b[31mred"],
    "subject": ["\u202e\ue000"],
    "keywords": ["k" * 2000],
    "sidecar": ["/etc/passwd"],
    "on_page_error": ["ignore"],
    "priority": ["urgent", "ocr"],
    "engine": ["cloud"],
    "allow_signed": ["sure"],
}


@leaves_nothing
@pytest.mark.parametrize("option", OPTIONS)
def test_cases_39_40_41_43_an_invalid_option_is_refused_and_named(
    http: httpx.Client, tally: Any, option: str
) -> None:
    tally.tried += len(OPTIONS[option]) - 1
    for value in OPTIONS[option]:
        answer = submit(http, ("a.png", PNG), **{option: value})
        problem = refused(answer, 422, "invalid_options")
        assert any(row["pointer"].startswith(f"#/{option}") for row in problem["errors"])


def test_each_option_has_an_invalid_value_in_this_list() -> None:
    assert OPTIONS.keys() == JobOptions.model_fields.keys()


#: Options of OCRmyPDF that clients must not set: files, programs, plugins, processes, limits.
FORBIDDEN = [
    *("plugins", "plugin", "tesseract_config", "tesseract_oem", "user_words", "user_patterns"),
    *("unpaper_args", "input_file", "output_file", "output_folder", "work_folder"),
    *("keep_temporary_files", "jobs", "use_threads", "max_image_mpixels", "verbose"),
    *("extra_attrs", "tesseract_timeout", "ocr_engine", "rasterizer", "pdf_renderer"),
    *("invalidate_digital_signatures", "color_conversion_strategy", "skip_big", "sidecar_file"),
]


@leaves_nothing
@pytest.mark.parametrize("name", ["nosuch", "", "x" * 200, "__class__", "model_config", *FORBIDDEN])
def test_cases_37_38_an_unknown_option_is_refused(http: httpx.Client, name: str) -> None:
    problem = refused(submit(http, ("a.png", PNG), **{name: "/tmp/x.py"}), 422, "invalid_options")

    assert problem["errors"][0]["detail"] == "unknown option"


def test_case_38_options_in_the_url_are_ignored(http: httpx.Client) -> None:
    """Nothing in a URL changes how a document is processed."""
    answer = http.post("/v1/jobs?mode=nonsense&plugins=x", files={"file": ("a.png", PNG)})

    assert answer.status_code == 202
    assert answer.json()["options"]["mode"] == "skip"


@leaves_nothing
@pytest.mark.parametrize("language", ["tlh", "xx", "deu+xx"])
def test_case_39_a_language_that_is_not_installed(http: httpx.Client, language: str) -> None:
    answer = submit(http, ("a.png", PNG), languages=language)

    problem = refused(answer, 422, "language_unavailable")
    assert problem["missing"] == [language.rpartition("+")[2]]
    assert {"deu", "eng"} <= set(problem["installed"])


def test_languages_can_be_repeated_or_joined_with_plus_signs(http: httpx.Client) -> None:
    for sent in (["deu", "eng"], "deu+eng", "deu,eng"):
        job = submit(http, ("a.png", PNG), languages=sent).json()
        assert job["options"]["languages"] == ["deu", "eng"]
        http.delete(job["links"]["self"])


@leaves_nothing
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"[" * 10_000 + b"]" * 10_000, 400, "malformed_request"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 400, "malformed_request"),
        (b'{"mode": "skip", "mode": "redo"}', 400, "malformed_request"),
    ],
    ids=["deep list", "deep object", "same key twice"],
)
def test_case_42_options_are_not_json(
    http: httpx.Client, body: bytes, status: int, code: str
) -> None:
    """Options are form fields. There is no JSON to parse, and depth has no meaning."""
    kind = {"Content-Type": "application/json"}
    refused(http.post("/v1/jobs", content=body, headers=kind), status, code)
    form = http.post("/v1/jobs", data={"options": body[:90_000]}, files={"file": ("a.png", PNG)})
    refused(form, 422, "invalid_options")


@leaves_nothing
def test_case_42_an_option_sent_twice(http: httpx.Client) -> None:
    answer = http.post("/v1/jobs", data={"mode": ["skip", "redo"]}, files={"file": ("a", PNG)})

    refused(answer, 422, "invalid_options")


@leaves_nothing
@pytest.mark.parametrize("fields", [{"title": "x" * 1_048_576}, {f"f{n}": "x" for n in range(900)}])
def test_case_42_a_long_text(http: httpx.Client, fields: dict[str, str]) -> None:
    refused(submit(http, ("a.png", PNG), **fields), 413, "too_many_files")


@leaves_nothing
@pytest.mark.parametrize("other", ["deskew", "remove_background"])
def test_case_44_contradictory_options(http: httpx.Client, other: str) -> None:
    answer = submit(http, ("a.png", PNG), **{"mode": "redo", other: "true"})

    assert "mode=force" in refused(answer, 422, "invalid_options")["detail"]
