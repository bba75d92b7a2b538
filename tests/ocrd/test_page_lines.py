"""New words for the lines of a real PAGE document, the rest of which is preserved."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lxml import etree

from ocr_tasks.formats.page import Word
from ocr_tasks.ocrd import page_xml
from ocr_tasks.ocrd.page_lines import Lines
from tests.conftest import DATA

PAGE = "{http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15}"
WHEN = datetime(2026, 11, 20, 22, 30, tzinfo=UTC)
MADE = page_xml.Made("ocrd-x", "recognition/text-recognition", "1.0.0", {"a": 1})
TRUE = (DATA / "kant" / "OCR-D-GT-PAGE" / "PAGE_0017_PAGE.xml").read_bytes()
SIZE = (1457, 2083)

#: What OCR-D's validators report about a file, without coordinates, which are already wrong in the
#: original.
CORE = """
import sys
from ocrd_validators import PageValidator, XsdPageValidator
path = sys.argv[1]
found = PageValidator.validate(filename=path, check_baseline=False, check_coords=False).errors
found += XsdPageValidator.validate(doc=open(path, "rb").read()).errors
print(len(found), *found)
"""


def _write(document: bytes, texts: Sequence[Sequence[Word]] | None = None) -> bytes:
    lines = Lines(document)
    words = [
        [Word(f"{text}{number}", (x, 10, x + 9, 20), 0.5) for x, text in ((10, "a"), (20, "b"))]
        for number in range(len(lines.polygons))
    ]
    lines.put(words if texts is None else texts, SIZE)
    return lines.write("NEW_1", MADE, WHEN)


def test_a_real_document_with_other_words_is_valid(ocrd_bin: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.xml"
    path.write_bytes(_write(TRUE))
    said = subprocess.run(
        [ocrd_bin / "python", "-c", CORE, path], capture_output=True, check=True, text=True
    )
    assert said.stdout == "0\n"


def test_everything_but_words_and_text_is_preserved() -> None:
    def rest(document: bytes) -> str:
        root = etree.fromstring(document)
        root.attrib.pop("pcGtsId")
        for name in ("Word", "TextEquiv", "MetadataItem", "LastChange"):
            for element in list(root.iter(f"{PAGE}{name}")):
                parent = element.getparent()
                assert parent is not None
                parent.remove(element)
        for element in root.iter():
            element.text = element.tail = None
        return etree.tostring(root, encoding="unicode")

    assert rest(_write(TRUE)) == rest(TRUE).replace(" standalone='yes'", "")


def test_each_line_has_its_words_and_each_region_its_lines() -> None:
    root = etree.fromstring(_write(TRUE))
    text = f"{PAGE}TextEquiv/{PAGE}Unicode"
    lines = [line.findtext(text) for line in root.iter(f"{PAGE}TextLine")]
    assert lines == [f"a{number} b{number}" for number in range(len(lines))]
    regions = [region.findtext(text, "") for region in root.iter(f"{PAGE}TextRegion")]
    assert "\n".join(filter(None, regions)).split("\n") == lines
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))


def test_the_metadata_says_which_software_changed_the_document_and_when() -> None:
    root = etree.fromstring(_write(TRUE))
    assert root.get("pcGtsId") == "NEW_1"
    assert root.findtext(f".//{PAGE}LastChange") == "2026-11-20T22:30:00"
    (item,) = root.iter(f"{PAGE}MetadataItem")
    assert item.get("value") == "ocrd-x"


def test_words_of_a_right_to_left_line_are_written_from_left_to_right() -> None:
    original = etree.fromstring(TRUE)
    for line in original.iter(f"{PAGE}TextLine"):
        line.set("readingDirection", "right-to-left")
    root = etree.fromstring(_write(etree.tostring(deepcopy(original))))
    line = next(root.iter(f"{PAGE}TextLine"))
    texts = [word.findtext(f"{PAGE}TextEquiv/{PAGE}Unicode") for word in line.iter(f"{PAGE}Word")]
    assert texts == ["b0", "a0"]
    assert line.findtext(f"{PAGE}TextEquiv/{PAGE}Unicode") == "a0 b0"


def test_lines_without_recognized_words_have_no_text() -> None:
    root = etree.fromstring(_write(TRUE, [()] * len(Lines(TRUE).polygons)))
    assert root.find(f".//{PAGE}TextEquiv") is None
    assert root.find(f".//{PAGE}Word") is None


def test_coordinates_are_whole_pixels() -> None:
    document = f'<PcGts xmlns="{PAGE[1:-1]}"><TextLine><Coords points="{{}}"/></TextLine></PcGts>'
    lines = Lines(document.format("1,2 3.6,4 -5,6").encode())
    assert lines.polygons == [[(1, 2), (4, 4), (-5, 6)]]
    for points in ("", "1,2", "1,2 3", "1,2 nan,4", "1,2 3,4x", "1,2 " * 10_001, "1,1e9 2,2"):
        with pytest.raises(ValueError, match="has no valid coordinates"):
            Lines(document.format(points).encode())


def test_another_version_of_page_is_refused() -> None:
    with pytest.raises(ValueError, match="2019-07-15"):
        Lines(b'<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2013-07-15"/>')
