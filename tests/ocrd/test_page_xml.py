"""PAGE-XML output, checked with its schema and with OCR-D's own parser and validator."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from ocr_tasks.formats.page import Block, Line, Page, Paragraph, Word
from ocr_tasks.ocrd import page_xml

NAMESPACE = "{http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15}"
WHEN = datetime(2026, 11, 20, 22, 30, tzinfo=UTC)
SOURCE = page_xml.Source(
    "OCR-D-IMG/a  & <b>.tif", (page_xml.Alternative("OCR-D-BIN/a.png", "binarized"),)
)
MADE = page_xml.Made(
    "ocrd-ocr-tasks-recognize",
    "recognition/text-recognition",
    "0.1.0",
    {"languages": 'deu"+<eng>', "dpi": 0, "list": ["a", None]},
)

#: Prints what OCR-D's own classes parse from files, and what its validators report.
CORE = """
import json, sys
from ocrd_models.ocrd_page import parse
from ocrd_validators import PageValidator, XsdPageValidator

def look(path):
    pcgts = parse(path, silence=True)
    page = pcgts.get_Page()
    lines = page.get_AllTextLines()
    return {
        "faults": [str(e) for e in PageValidator.validate(filename=path).errors]
        + XsdPageValidator.validate(doc=open(path, "rb").read()).errors,
        "image": page.imageFilename,
        "size": [page.imageWidth, page.imageHeight],
        "alternatives": [[i.filename, i.comments] for i in page.get_AlternativeImage()],
        "order": [r.id for r in page.get_AllRegions(classes=["Text"], order="reading-order")],
        "lines": [line.get_TextEquiv()[0].Unicode for line in lines],
        "words": [[w.get_TextEquiv()[0].Unicode, w.get_TextEquiv()[0].conf, w.get_Coords().points]
                  for line in lines for w in line.get_Word()],
        "labels": [[l.type_, l.value] for item in pcgts.get_Metadata().get_MetadataItem()
                   for labels in item.get_Labels() for l in labels.get_Label()],
    }

print(json.dumps([look(path) for path in sys.argv[1:]]))
"""


def _write(page: Page, source: page_xml.Source = SOURCE) -> str:
    return "".join(page_xml.document(page, source, "OCR_0001", "OCR Tasks 0.1.0", MADE, WHEN))


def _read(page: Page) -> etree._Element:
    return etree.fromstring(_write(page).encode())


@pytest.fixture(scope="session")
def schema(ocrd_bin: Path) -> etree.XMLSchema:
    (path,) = ocrd_bin.parent.glob("lib/python*/site-packages/ocrd_validators/page.xsd")
    return etree.XMLSchema(etree.parse(path))


def _ask_core(ocrd_bin: Path, folder: Path, pages: Sequence[Page]) -> list[dict[str, Any]]:
    paths = [folder / f"{number}.xml" for number in range(len(pages))]
    for page, path in zip(pages, paths, strict=True):
        path.write_text(_write(page), encoding="utf-8")
    found = subprocess.run(
        [ocrd_bin / "python", "-c", CORE, *paths], capture_output=True, check=True
    )
    answers: list[dict[str, Any]] = json.loads(found.stdout)
    return answers


@pytest.fixture
def crooked() -> Page:
    """A page with invalid boxes: empty, outside the page, outside their parents."""
    words = (
        Word("empty", (10, 10, 10, 10), 0.5),
        Word("corner", (100, 50, 100, 50), 0.5),
        Word("outside", (90, 40, 300, 200), 1.0),
    )
    lines = (Line((20, 20, 30, 30), (3.0, -500.0), words), Line((0, 0, 0, 0), (0.0, 9.0), words))
    paragraph = Paragraph((40, 40, 41, 41), None, "ltr", lines)
    return Page(1, 100, 50, 300.0, (Block((0, 0, 1, 1), (paragraph,)),), "ocr")


def test_a_document_follows_the_schema(
    schema: etree.XMLSchema, scanned: Page, hostile: Page, crooked: Page
) -> None:
    for page in (scanned, hostile, crooked, Page.empty(9, 10, 20, 300)):
        schema.assertValid(_read(page))


def test_ocrd_core_parses_the_document_without_errors(
    ocrd_bin: Path,
    tmp_path: Path,
    scanned: Page,
    hostile: Page,
    crooked: Page,
    hostile_words: list[str],
) -> None:
    pages = (scanned, hostile, crooked, Page.empty(9, 10, 20, 300))
    found = _ask_core(ocrd_bin, tmp_path, pages)
    assert [page["faults"] for page in found] == [[]] * len(pages)
    first, second, _, last = found
    assert [text for text, _, _ in first["words"]] == [word.text for word in scanned.words]
    for (_, confidence, points), word in zip(first["words"], scanned.words, strict=True):
        left, top, right, bottom = word.box
        assert float(confidence) == word.confidence
        assert points == f"{left},{top} {right},{top} {right},{bottom} {left},{bottom}"
    assert first["lines"] == [" ".join(w.text for w in line.words) for line in scanned.lines]
    assert first["image"] == SOURCE.image
    assert first["size"] == [scanned.width, scanned.height]
    assert first["alternatives"] == [["OCR-D-BIN/a.png", "binarized"]]
    assert len(first["order"]) == sum(1 for _ in scanned.paragraphs)
    *left_to_right, one, two = hostile_words
    assert [text for text, _, _ in second["words"]] == [*left_to_right, two, one]
    assert second["lines"] == [" ".join(left_to_right), f"{one} {two}"]
    assert ["languages", 'deu"+<eng>'] in second["labels"]
    assert ["list", '["a", null]'] in second["labels"]
    assert last["words"] == last["order"] == []


def test_words_without_a_measured_confidence_have_none(hostile: Page) -> None:
    found = {
        element.findtext(f"{NAMESPACE}Unicode"): element.get("conf")
        for element in _read(hostile).iter(f"{NAMESPACE}TextEquiv")
    }
    assert found['"]]>'] is None
    assert found["😀𐍈"] == "0.9312"


def test_the_confidence_of_a_line_is_that_of_its_words_weighted_by_length() -> None:
    words = (Word("a", (0, 0, 5, 5), 0.1), Word("bcd", (6, 0, 9, 5), 0.9))
    line = Line((0, 0, 9, 5), None, words)
    page = Page(
        1,
        9,
        5,
        300.0,
        (Block((0, 0, 9, 5), (Paragraph((0, 0, 9, 5), None, None, (line,)),)),),
        "ocr",
    )
    (element,) = _read(page).iter(f"{NAMESPACE}TextLine")
    equiv = element.find(f"{NAMESPACE}TextEquiv")
    assert equiv is not None
    assert equiv.get("conf") == "0.7"


def test_a_baseline_is_two_points_in_the_line(hostile: Page, crooked: Page) -> None:
    def baselines(page: Page) -> list[str | None]:
        return [each.get("points") for each in _read(page).iter(f"{NAMESPACE}Baseline")]

    assert baselines(hostile) == ["10,18 190,17"]
    assert baselines(crooked) == ["10,10 100,10", "0,9 100,9"]


def test_times_are_utc(hostile: Page) -> None:
    local = WHEN.astimezone(timezone(timedelta(hours=-5)))
    document = "".join(page_xml.document(hostile, SOURCE, "a", "b", None, local))
    assert "<Created>2026-11-20T22:30:00</Created>" in document


def test_a_document_names_its_images(hostile: Page) -> None:
    found = page_xml.read(_write(hostile))
    assert found == page_xml.Source(SOURCE.image, SOURCE.alternatives, regions=2, lines=2)


def test_ground_truth_of_an_older_version_is_parsed() -> None:
    found = page_xml.read(
        '<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2013-07-15">'
        '<Page imageFilename="a.tif"><TextRegion/></Page></PcGts>'
    )
    assert found == page_xml.Source("a.tif", regions=1)


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ("", True),
        ("binarized", True),
        ("binarized,despeckled,grayscale_normalized", True),
        ("binarized,cropped", False),
        ("deskewed", False),
        ("binarized, rotated-90", False),
        ("dewarped", False),
    ],
)
def test_a_rotated_or_cropped_image_does_not_match_the_page(features: str, expected: bool) -> None:
    assert page_xml.Alternative("a.png", features).in_place is expected


PAGE = f'<PcGts xmlns="{NAMESPACE[1:-1]}">{{}}</PcGts>'


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\xff\xfe<",
        "<PcGts/>",
        PAGE.format(""),
        PAGE.format("<Page/><Page/>"),
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'
        + PAGE.format('<Page imageFilename="&b;"/>'),
        PAGE.format('<Page imageFilename="a"/>').replace("</", "<"),
        '<alto xmlns="http://www.loc.gov/standards/alto/ns-v4#"><Page/></alto>',
    ],
    ids=range(8),
)
def test_other_xml_is_refused(document: bytes | str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        page_xml.read(document)
