"""Checking and cleaning of devices' transcripts."""

from __future__ import annotations

import pytest

from ocr_tasks import settings
from ocr_tasks.swarm import errors as swarm_errors
from ocr_tasks.swarm import transcripts
from ocr_tasks.swarm.model import SwarmPage
from tests.swarm.conftest import hocr

pytestmark = pytest.mark.usefixtures("service")

PAGE = SwarmPage("image/png", 100, 50, 300.0, ("eng",), "text", "scans", "a.png")
JOB_PAGE = SwarmPage("image/png", 100, 50, 300.0, ("eng",), "hocr", job_id="j", run="r", number=1)


def test_text_is_decoded_in_any_encoding() -> None:
    assert transcripts.read(PAGE, "Aufklärung".encode(), "text").text == "Aufklärung"
    assert transcripts.read(PAGE, b"caf\xe9", "text").text == "caf\N{REPLACEMENT CHARACTER}"
    assert transcripts.read(PAGE, b"", "text").text == ""


def test_text_has_no_control_characters() -> None:
    sent = "a\x00b\x1b[31mc\u202ed\r\ne\rf\u2066g\x9b\f"

    assert transcripts.clean(sent) == "ab[31mcd\ne\nfg\n"


def test_joiners_that_scripts_need_are_preserved() -> None:
    persian = "می\u200cخواهم"

    assert transcripts.clean(persian) == persian


def test_hocr_contains_text_and_positions() -> None:
    found = transcripts.read(JOB_PAGE, hocr("good words"), "hocr")

    assert found.text == "good words"
    assert found.hocr is not None
    assert "bbox 1 1 9 9" in found.hocr


def test_only_words_and_boxes_of_a_device_are_used() -> None:
    sent = hocr("fine").replace(
        b"<body>", b'<body onload="alert(1)"><script>alert(2)</script><style>x</style>'
    )
    sent = sent.replace(b'class="ocr_page"', b'class="ocr_page" onclick="alert(3)" id="evil"')
    found = transcripts.read(JOB_PAGE, sent, "hocr")

    assert found.hocr is not None
    for trace in ("alert", "script", "style", "onclick", "evil"):
        assert trace not in found.hocr


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"plain text",
        b"<html><body>no page</body></html>",
        hocr("cut")[:-20],
        hocr("wrong size", width=200),
        hocr("two").replace(b"</body>", hocr("pages")[51:]),
        b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + hocr("&e;"),
        hocr("nan").replace(b"bbox 0 0 100 50", b"bbox 0 0 nan 50"),
        hocr("huge").replace(b"bbox 0 0 100 50", b"bbox 0 0 1e999 50"),
        b"<a>" * 100_000,
        b"\xff\xfe\x00\x00",
    ],
)
def test_other_html_is_refused(body: bytes) -> None:
    with pytest.raises(swarm_errors.TranscriptInvalid):
        transcripts.read(JOB_PAGE, body, "hocr")


def test_boxes_are_clipped_to_the_page() -> None:
    sent = hocr("far").replace(b"bbox 1 1 9 9; x_wconf", b"bbox -5 -5 9999 9999; x_wconf")
    found = transcripts.read(JOB_PAGE, sent, "hocr")

    assert found.hocr is not None
    assert "9999" not in found.hocr
    assert "bbox 0 0 100 50" in found.hocr


ALTO = (
    '<alto xmlns="http://www.loc.gov/standards/alto/ns-v3#"><Description><MeasurementUnit>pixel'
    '</MeasurementUnit></Description><Layout><Page WIDTH="100" HEIGHT="50"><PrintSpace>'
    '<TextBlock HPOS="1" VPOS="1" WIDTH="20" HEIGHT="9"><TextLine HPOS="1" VPOS="1" WIDTH="20" '
    'HEIGHT="9"><String CONTENT="good" HPOS="1" VPOS="1" WIDTH="9" HEIGHT="9" WC="0.9"/><SP/>'
    '<String CONTENT="words" HPOS="11" VPOS="1" WIDTH="9999" HEIGHT="9"/></TextLine></TextBlock>'
    "</PrintSpace></Page></Layout></alto>"
)


def test_alto_is_accepted_like_hocr() -> None:
    found = transcripts.read(JOB_PAGE, ALTO.encode(), "alto")

    assert found.text == "good words"
    assert found.hocr is not None
    assert "bbox 1 1 10 10" in found.hocr
    assert "bbox 11 1 100 10" in found.hocr


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<alto/>",
        ALTO.replace("pixel", "mm10"),
        ALTO.replace('WIDTH="100"', 'WIDTH="nan"'),
        ALTO.replace('WIDTH="100"', 'WIDTH="101"'),
        ALTO.replace('WIDTH="100"', 'WIDTH="1e400"'),
        ALTO.replace('HPOS="1"', "", 1),
        ALTO.replace("</TextLine>", "</TextLine><TextBlock><TextBlock/></TextBlock>"),
        '<!DOCTYPE x [<!ENTITY e "x">]>' + ALTO,
    ],
)
def test_invalid_alto_is_refused(body: str) -> None:
    with pytest.raises(swarm_errors.TranscriptInvalid):
        transcripts.read(JOB_PAGE, body.encode(), "alto")


def test_nested_areas_are_refused_before_they_are_traversed() -> None:
    word = '<span class="ocrx_word" title="bbox 1 1 9 9">x</span>'
    deep = word * 1000
    for kind in ("ocr_line", "ocr_par", "ocr_carea"):
        for _ in range(60):
            deep = f'<div class="{kind}" title="bbox 1 1 9 9">{deep}</div>'
    page = f'<html><body><div class="ocr_page" title="bbox 0 0 100 50">{deep}</div></body></html>'

    with pytest.raises(swarm_errors.TranscriptInvalid, match="nested in another"):
        transcripts.read(JOB_PAGE, page.encode(), "hocr")


def test_plain_text_is_not_sufficient_if_positions_are_needed() -> None:
    with pytest.raises(swarm_errors.TranscriptInvalid, match="hOCR"):
        transcripts.read(JOB_PAGE, b"words", "text")


def test_a_transcript_over_the_size_limit_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OCR_SWARM_TRANSCRIPT_BYTES", "2000")
    settings.clear()

    transcripts.read(PAGE, b"x" * 2000, "text")
    with pytest.raises(swarm_errors.TranscriptTooLarge):
        transcripts.read(PAGE, b"x" * 2001, "text")
