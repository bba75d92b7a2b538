from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest
from lxml import etree

from ocr_tasks.formats import hocr
from ocr_tasks.formats.page import Page

WORD = "<span class='ocrx_word' title='bbox 1 2 3 4; x_wconf 93'>one</span>"


def _hocr(words: str = WORD, page: str = "bbox 0 0 100 200; scan_res 300 301") -> str:
    return (
        f"<html xmlns='http://www.w3.org/1999/xhtml'><body><div class='ocr_page' title='{page}'>"
        "<div class='ocr_carea' title='bbox 0 0 9 9'>"
        "<p class='ocr_par' lang='deu' dir='rtl' title='bbox 0 0 9 9'>"
        "<span class='ocr_header' title='bbox 0 0 9 9; baseline -0.01 -2'>"
        f"{words}</span></p></div></div></body></html>"
    )


def _texts(page: Page) -> list[str]:
    return [word.text for word in page.words]


def test_every_word_of_tesseract_is_parsed(tesseract_hocr: bytes, scanned: Page) -> None:
    assert len(_texts(scanned)) == tesseract_hocr.count(b"'ocrx_word'") > 150
    assert (scanned.width, scanned.height, scanned.dpi) == (800, 981, 150)
    assert scanned.source == "ocr"


def test_a_caption_is_a_line_like_any_other(tesseract_hocr: bytes, scanned: Page) -> None:
    kinds = (b"'ocr_line'", b"'ocr_header'", b"'ocr_caption'", b"'ocr_textfloat'")
    written = sum(tesseract_hocr.count(kind) for kind in kinds)
    assert tesseract_hocr.count(b"'ocr_caption'") > 0
    assert sum(1 for _ in scanned.lines) == written


def test_all_attributes_of_a_word_are_parsed() -> None:
    page = hocr.parse(_hocr(), 3, 300)
    (paragraph,) = page.paragraphs
    (line,) = page.lines
    (word,) = page.words
    assert page.number == 3
    assert (paragraph.language, paragraph.direction) == ("deu", "rtl")
    assert (line.box, line.baseline) == ((0, 0, 9, 9), (-0.01, -2.0))
    assert (word.text, word.box, word.confidence) == ("one", (1, 2, 3, 4), 0.93)


def test_the_given_resolution_overrides_that_of_tesseract() -> None:
    assert hocr.parse(_hocr(), 1, 299.97).dpi == 299.97
    assert hocr.parse(_hocr(), 1, None).dpi == 301


def test_a_page_without_any_resolution_is_refused() -> None:
    with pytest.raises(ValueError, match="resolution"):
        hocr.parse(_hocr(page="bbox 0 0 9 9"), 1, None)


def test_text_and_bytes_are_parsed_alike(tesseract_hocr: bytes, scanned: Page) -> None:
    assert hocr.parse(tesseract_hocr.decode(), 1, 150) == scanned
    assert hocr.parse(b"\xef\xbb\xbf" + tesseract_hocr, 1, 150) == scanned


def test_emphasis_comments_and_line_breaks_are_not_part_of_a_word() -> None:
    word = WORD.replace("one", "<strong>o</strong><!-- x --><em>\n</em>n<?pi x?>e")
    assert _texts(hocr.parse(_hocr(word), 1, 300)) == ["o ne"]


def test_words_without_text_are_left_out() -> None:
    page = hocr.parse(_hocr(WORD.replace("one", " \u00a0 ")), 1, 300)
    assert page.blocks == ()


def test_control_characters_are_dropped() -> None:
    assert _texts(hocr.parse(_hocr(WORD.replace("one", "o\x00n\x07e\x85")), 1, 300)) == ["one"]


def test_a_file_name_is_not_parsed_as_a_box() -> None:
    title = "image &quot;a; bbox 0 0 5 5; scan_res 1 1&quot;; bbox 0 0 100 200; scan_res 300 300"
    page = hocr.parse(_hocr(page=title), 1, None)
    assert (page.width, page.height, page.dpi) == (100, 200, 300)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("-5 -5 900 900", (0, 0, 100, 200)),
        ("2147483647 2147483647 -2147483647 -2147483647", (100, 200, 100, 200)),
        ("50 60 40 30", (50, 60, 50, 60)),
    ],
)
def test_a_box_is_inside_the_page(written: str, read: tuple[int, int, int, int]) -> None:
    (word,) = hocr.parse(_hocr(WORD.replace("1 2 3 4", written)), 1, 300).words
    assert word.box == read


@pytest.mark.parametrize(("written", "read"), [("-1", 0.0), ("101", 1.0), ("95.12", 0.9512)])
def test_a_confidence_is_between_zero_and_one(written: str, read: float) -> None:
    (word,) = hocr.parse(_hocr(WORD.replace("93", written)), 1, 300).words
    assert word.confidence == pytest.approx(read)


@pytest.mark.parametrize(
    "broken",
    [
        WORD.replace("bbox", "box"),
        WORD.replace("1 2 3 4", "1 2 3"),
        WORD.replace("1 2 3 4", "1 2 3 x"),
        WORD.replace("1 2 3 4", "1 2 3 inf"),
        WORD.replace("93", "nan"),
        WORD.replace("</span>", ""),
        WORD.replace("one", "&nbsp;"),
        WORD.replace("one", "&#0;"),
    ],
)
def test_a_broken_word_is_refused(broken: str) -> None:
    with pytest.raises(ValueError, match=r"hOCR|float"):
        hocr.parse(_hocr(broken), 1, 300)


@pytest.mark.parametrize("nothing", [b"", "", " ", "<html/>", b"\xff\xfe", b"%PDF-1.7"])
def test_other_html_is_not_an_empty_page(nothing: bytes | str) -> None:
    with pytest.raises(ValueError, match=r"hOCR|utf-8"):
        hocr.parse(nothing, 1, 300)


def test_two_pages_are_refused() -> None:
    page = "<div class='ocr_page' title='bbox 0 0 1 1'/>"
    with pytest.raises(ValueError, match="2 pages"):
        hocr.parse(f"<html>{page}{page}</html>", 1, 300)


def test_a_page_without_size_is_refused() -> None:
    with pytest.raises(ValueError, match="0 by 0 pixels"):
        hocr.parse(_hocr(page="bbox 0 0 0 0"), 1, 300)


def test_a_word_outside_a_line_is_refused() -> None:
    stray = f"<div class='ocr_page' title='bbox 0 0 9 9'>{WORD}</div>"
    with pytest.raises(ValueError, match="words outside of a line"):
        hocr.parse(stray, 1, 300)


def test_entities_that_load_files_are_refused() -> None:
    declaration = "<!DOCTYPE html [<!ENTITY xxe SYSTEM 'file:///etc/passwd'>]>"
    with pytest.raises(ValueError, match="entities"):
        hocr.parse(declaration + _hocr(WORD.replace("one", "&xxe;")), 1, 300)


def test_entities_that_expand_each_other_are_refused() -> None:
    laughs = "".join(f"<!ENTITY l{n + 1} '{f'&l{n};' * 10}'>" for n in range(9))
    declaration = f"<!DOCTYPE html [<!ENTITY l0 'lol'>{laughs}]>"
    with pytest.raises(ValueError, match="entities"):
        hocr.parse(declaration + _hocr(WORD.replace("one", "&l9;")), 1, 300)


def test_no_encoding_hides_entities() -> None:
    document = "<!DOCTYPE html [<!EN\x00TITY x 'y'>]>" + _hocr(WORD.replace("one", "&x;"))
    with pytest.raises(ValueError, match="entities"):
        hocr.parse(document, 1, 300)
    encoded = '<?xml version="1.0" encoding="UTF-16"?>' + document.replace("\x00", "")
    with pytest.raises(ValueError, match="utf-8"):
        hocr.parse(encoded.encode("utf-16"), 1, 300)
    utf_7 = '<?xml version="1.0" encoding="UTF-7"?>' + _hocr(WORD.replace("one", "+ADw-"))
    assert _texts(hocr.parse(utf_7, 1, 300)) == ["+ADw-"]


def test_an_external_document_type_is_not_fetched() -> None:
    declaration = "<!DOCTYPE html SYSTEM 'http://127.0.0.1:9/x.dtd'>"
    assert _texts(hocr.parse(declaration + _hocr(), 1, 300)) == ["one"]


def test_a_parameter_entity_is_refused() -> None:
    declaration = "<!DOCTYPE html [<!ENTITY % p SYSTEM 'file:///etc/passwd'> %p;]>"
    with pytest.raises(ValueError, match="entities"):
        hocr.parse(declaration + _hocr(), 1, 300)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ValueError, match="well-formed"):
        hocr.parse("<div>" * 5000 + "</div>" * 5000, 1, 300)


def test_written_hocr_can_be_parsed_again(scanned: Page) -> None:
    again = hocr.parse(hocr.page(scanned, "title", "system"), 1, 150)
    assert list(again.lines) == list(scanned.lines)
    assert [p.box for p in again.paragraphs] == [p.box for p in scanned.paragraphs]


def test_a_steep_baseline_keeps_all_digits_of_tesseract() -> None:
    page = hocr.parse(_hocr().replace("-0.01 -2", "0.035 -35.141"), 1, 300)
    again = hocr.parse(hocr.page(page, "", ""), 1, 300)
    assert [line.baseline for line in again.lines] == [(0.035, -35.141)]


def test_the_angle_of_a_line_is_kept() -> None:
    page = hocr.parse(_hocr().replace("baseline -0.01 -2", "textangle 270"), 1, 300)
    written = hocr.page(page, "", "")
    assert [line.angle for line in page.lines] == [270]
    assert "bbox 0 0 9 9; textangle 270" in written
    assert list(hocr.parse(written, 1, 300).lines) == list(page.lines)


def test_written_hostile_text_can_be_parsed_again(hostile: Page, hostile_words: list[str]) -> None:
    title = "</title><script>\x00"
    written = hocr.page(hostile, title, '"/>')
    again = hocr.parse(written, 7, 72)
    assert _texts(again) == hostile_words
    assert [word.confidence for word in again.words][:2] == [0.5, None]
    assert [p.direction for p in again.paragraphs] == [None, "rtl"]
    assert "<script" not in written
    assert written.encode()


def test_languages_are_written_as_bcp_47_tags_where_possible(hostile: Page) -> None:
    written = hocr.page(hostile, "", "")
    assert 'lang="ita_old"' in written
    assert 'lang="he" xml:lang="he" dir="rtl"' in written


def test_a_document_is_well_formed_and_has_all_its_pages(scanned: Page, hostile: Page) -> None:
    pages = [scanned, hostile, Page.empty(8, 10, 10, 300), scanned]
    root = etree.fromstring("".join(hocr.document(pages, "title", "system")).encode())
    found = root.findall(".//{*}div[@class='ocr_page']")
    assert [page.get("title", "").split("; ")[1] for page in found] == [
        "ppageno 0",
        "ppageno 6",
        "ppageno 7",
        "ppageno 0",
    ]
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids)) > 400


def test_a_document_of_5000_pages_is_written_page_by_page(hostile: Page) -> None:
    taken = 0

    def pages() -> Iterator[Page]:
        nonlocal taken
        for _ in range(5000):
            taken += 1
            yield hostile

    chunks = hocr.document(pages(), "title", "system")
    next(chunks)
    for expected in range(1, 11):
        next(chunks)
        assert taken == expected
    assert sum(1 for _ in islice(chunks, 6000)) == 4990 + 1
    assert taken == 5000
