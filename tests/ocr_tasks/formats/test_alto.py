"""ALTO output, checked against the rules of ALTO 4.4's schema for the elements that are written.

The rules are written by hand, because the schema is licensed under CC BY-SA and is not part of this
project.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from lxml import etree

from ocr_tasks.formats import alto
from ocr_tasks.formats.page import Page

NAMESPACE = "{http://www.loc.gov/standards/alto/ns-v4#}"
WHEN = datetime(2026, 11, 20, 22, 30, tzinfo=UTC)

# Children in the schema's order: `?` at most one, `+` one or more, `*` any number.
CHILDREN = {
    "alto": "(Description )?(Layout )",
    "Description": "(MeasurementUnit )(sourceImageInformation )?(Processing )*",
    "sourceImageInformation": "(fileName )?",
    "Processing": "(processingCategory )?(processingDateTime )?(processingSoftware )?",
    "processingSoftware": "(softwareName )?(softwareVersion )?",
    "Layout": "(Page )+",
    "Page": "(PrintSpace )?",
    "PrintSpace": "(TextBlock )*",
    "TextBlock": "(TextLine )*",
    "TextLine": "((String )(SP )?)+",
}
NUMBER = r"-?\d+(\.\d+)?"
FRACTION = r"0(\.\d+)?|1"
ID = r"[a-z]+_[0-9_]+"
PLACE = dict.fromkeys(("HPOS", "VPOS", "WIDTH", "HEIGHT"), r"\d+")
LANGUAGE = r"[a-zA-Z]{1,8}(-[a-zA-Z0-9]{1,8})*"
ATTRIBUTES = {
    "alto": {"SCHEMAVERSION": r"4\.4"},
    "Processing": {"ID": ID},
    "Page": {
        "ID": ID,
        "PHYSICAL_IMG_NR": r"\d+",
        "WIDTH": r"\d+",
        "HEIGHT": r"\d+",
        "PC": FRACTION,
    },
    "PrintSpace": PLACE,
    "TextBlock": {"ID": ID, **PLACE, "LANG": LANGUAGE, "BASEDIRECTION": "ltr|rtl"},
    "TextLine": {"ID": ID, **PLACE, "BASELINE": rf"{NUMBER},{NUMBER} {NUMBER},{NUMBER}"},
    "String": {"ID": ID, **PLACE, "CONTENT": r"(?s).*", "WC": FRACTION},
    "SP": PLACE,
}
OPTIONAL = {"PC", "WC", "LANG", "BASEDIRECTION", "BASELINE"}


def _write(*pages: Page, file_name: str = "scan.pdf") -> str:
    return "".join(alto.document(pages, file_name, "OCR Tasks", "0.1.0", WHEN))


def _read(*pages: Page) -> etree._Element:
    return etree.fromstring(_write(*pages).encode())


def _name(element: etree._Element) -> str:
    return str(element.tag).removeprefix(NAMESPACE)


def _faults(root: etree._Element) -> Iterator[str]:
    for element in root.iter():
        name = _name(element)
        children = "".join(f"{_name(child)} " for child in element)
        if not re.fullmatch(CHILDREN.get(name, ""), children):
            yield f"{name} has the children {children}"
        rules = ATTRIBUTES.get(name, {})
        # Attributes of a foreign namespace (xsi:schemaLocation) belong to the schema language.
        attributes = {str(k): str(v) for k, v in element.attrib.items() if str(k)[0] != "{"}
        for attribute in rules.keys() - OPTIONAL - attributes.keys():
            yield f"{name} lacks {attribute}"
        for attribute, value in attributes.items():
            if attribute not in rules or not re.fullmatch(rules[attribute], value):
                yield f"{name} has {attribute}={value}"
    ids = [element.get("ID") for element in root.iter() if element.get("ID")]
    if len(ids) != len(set(ids)):
        yield "ids come twice"


def test_a_document_follows_the_schema(scanned: Page, hostile: Page) -> None:
    assert list(_faults(_read(scanned, hostile, Page.empty(9, 10, 20, 300), scanned))) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("<SP ", "<HP "),
        ('LANG="he"', 'LANG="ita_old"'),
        ("word_1_2", "word_1_1"),
        ('WC="0.5"', 'WC="50"'),
        (' CONTENT="', ' TEXT="'),
    ],
)
def test_the_rules_detect_an_error(hostile: Page, right: str, wrong: str) -> None:
    written = _write(hostile)
    assert right in written
    assert list(_faults(etree.fromstring(written.replace(right, wrong).encode())))


def test_the_description_names_the_source_the_software_and_the_time(hostile: Page) -> None:
    root = etree.fromstring(_write(hostile, file_name="a<b>&]]>\x00.pdf").encode())
    said = {_name(element): element.text for element in root.iter() if not len(element)}
    assert said["MeasurementUnit"] == "pixel"
    assert said["fileName"] == "a<b>&]]>.pdf"
    assert said["processingDateTime"] == "2026-11-20T22:30:00+00:00"
    assert (said["softwareName"], said["softwareVersion"]) == ("OCR Tasks", "0.1.0")


def test_every_word_has_its_position_and_confidence(scanned: Page) -> None:
    strings = _read(scanned).findall(f".//{NAMESPACE}String")
    assert [s.get("CONTENT") for s in strings] == [word.text for word in scanned.words]
    for string, word in zip(strings, scanned.words, strict=True):
        left, top, right, bottom = word.box
        place = [string.get(name) for name in ("HPOS", "VPOS", "WIDTH", "HEIGHT")]
        assert place == [str(value) for value in (left, top, right - left, bottom - top)]
        assert float(string.get("WC", "")) == word.confidence


def test_the_page_has_the_mean_confidence_of_its_words(scanned: Page) -> None:
    page = _read(scanned).find(f".//{NAMESPACE}Page")
    assert page is not None
    assert scanned.confidence is not None
    assert float(page.get("PC", "")) == pytest.approx(scanned.confidence, abs=0.0001)


def test_words_without_a_measured_confidence_have_none(hostile: Page) -> None:
    root = _read(Page.empty(1, 10, 10, 300), hostile)
    page = root.find(f".//{NAMESPACE}Page")
    assert page is not None
    assert page.get("PC") is None
    strings = {s.get("CONTENT"): s.get("WC") for s in root.iter(f"{NAMESPACE}String")}
    assert strings['"]]>'] is None
    assert strings["😀𐍈"] == "0.9312"


def test_hostile_text_is_preserved_as_text(hostile: Page, hostile_words: list[str]) -> None:
    strings = [s.get("CONTENT") for s in _read(hostile).iter(f"{NAMESPACE}String")]
    assert [text for text in strings if text] == hostile_words


def test_a_space_fills_the_gap_in_both_reading_directions(hostile: Page) -> None:
    spaces = [dict(space.attrib) for space in _read(hostile).iter(f"{NAMESPACE}SP")]
    assert (spaces[0]["HPOS"], spaces[0]["WIDTH"]) == ("60", "10")
    assert (spaces[-1]["HPOS"], spaces[-1]["WIDTH"]) == ("140", "10")
    assert len(spaces) == 7


def test_a_baseline_is_two_points_on_the_page(hostile: Page) -> None:
    line = _read(hostile).find(f".//{NAMESPACE}TextLine")
    assert line is not None
    assert line.get("BASELINE") == "10,17.5 190,17.5"


def test_a_document_of_5000_pages_is_written_page_by_page(hostile: Page) -> None:
    taken = 0

    def pages() -> Iterator[Page]:
        nonlocal taken
        for _ in range(5000):
            taken += 1
            yield hostile

    chunks = alto.document(pages(), "scan.pdf", "OCR Tasks", "0.1.0", WHEN)
    next(chunks)
    for expected in range(1, 11):
        next(chunks)
        assert taken == expected
    assert sum(1 for _ in chunks) == 4990 + 1
