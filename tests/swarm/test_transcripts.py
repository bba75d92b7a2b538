"""What devices send is looked into and cleaned."""

from __future__ import annotations

import pytest

from ocr_tasks import errors, settings
from ocr_tasks.swarm import transcripts
from ocr_tasks.swarm.model import SwarmPage
from tests.swarm.conftest import hocr

pytestmark = pytest.mark.usefixtures("service")

PAGE = SwarmPage("image/png", 100, 50, 300.0, ("eng",), "text", "scans", "a.png")
JOB_PAGE = SwarmPage("image/png", 100, 50, 300.0, ("eng",), "hocr", job_id="j", run="r", number=1)


def test_text_is_decoded_whatever_it_is() -> None:
    assert transcripts.read(PAGE, "Aufklärung".encode(), "text").text == "Aufklärung"
    assert transcripts.read(PAGE, b"caf\xe9", "text").text == "caf\N{REPLACEMENT CHARACTER}"
    assert transcripts.read(PAGE, b"", "text").text == ""


def test_text_has_no_characters_that_control_something() -> None:
    sent = "a\x00b\x1b[31mc\u202ed\r\ne\rf\u2066g\x9b\f"

    assert transcripts.clean(sent) == "ab[31mcd\ne\nfg\n"


def test_joiners_that_scripts_need_stay() -> None:
    persian = "می\u200cخواهم"

    assert transcripts.clean(persian) == persian


def test_hocr_gives_text_and_places() -> None:
    found = transcripts.read(JOB_PAGE, hocr("good words"), "hocr")

    assert found.text == "good words"
    assert found.hocr is not None
    assert "bbox 1 1 9 9" in found.hocr


def test_nothing_of_a_device_but_words_and_boxes_comes_through() -> None:
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
def test_what_is_no_hocr_of_the_page_is_refused(body: bytes) -> None:
    with pytest.raises(errors.TranscriptInvalid):
        transcripts.read(JOB_PAGE, body, "hocr")


def test_boxes_outside_the_page_are_cut_to_it() -> None:
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


def test_alto_is_as_good_as_hocr() -> None:
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
def test_what_is_no_alto_of_the_page_is_refused(body: str) -> None:
    with pytest.raises(errors.TranscriptInvalid):
        transcripts.read(JOB_PAGE, body.encode(), "alto")


def test_areas_in_areas_are_refused_before_they_are_walked() -> None:
    word = '<span class="ocrx_word" title="bbox 1 1 9 9">x</span>'
    deep = word * 1000
    for kind in ("ocr_line", "ocr_par", "ocr_carea"):
        for _ in range(60):
            deep = f'<div class="{kind}" title="bbox 1 1 9 9">{deep}</div>'
    page = f'<html><body><div class="ocr_page" title="bbox 0 0 100 50">{deep}</div></body></html>'

    with pytest.raises(errors.TranscriptInvalid, match="nested in another"):
        transcripts.read(JOB_PAGE, page.encode(), "hocr")


def test_text_alone_is_not_enough_where_places_are_wanted() -> None:
    with pytest.raises(errors.TranscriptInvalid, match="hOCR"):
        transcripts.read(JOB_PAGE, b"words", "text")


def test_what_is_longer_than_a_page_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_SWARM_TRANSCRIPT_BYTES", "2000")
    settings.get.cache_clear()

    transcripts.read(PAGE, b"x" * 2000, "text")
    with pytest.raises(errors.TranscriptTooLarge):
        transcripts.read(PAGE, b"x" * 2001, "text")
