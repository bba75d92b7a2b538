"""OCR-D's page ID syntax, and regular expressions that cannot hang."""

from __future__ import annotations

import re

import pytest

from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd.mets import page_ids
from ocr_tasks.ocrd.mets.mets import Mets

METS = """<m:mets xmlns:m="http://www.loc.gov/METS/" xmlns:x="http://www.w3.org/1999/xlink">
<m:structMap TYPE="LOGICAL"><m:div ID="LOG_1" TYPE="book" LABEL="Was ist Aufklärung?">
 <m:div ID="LOG_2" TYPE="chapter" DMDID="D1"/><m:div ID="LOG_3" TYPE="chapter"/></m:div>
</m:structMap>
<m:structMap TYPE="PHYSICAL"><m:div TYPE="physSequence">
 <m:div TYPE="page" ID="P1_1" ORDER="1" ORDERLABEL="i" LABEL="Titel"/>
 <m:div TYPE="page" ID="P1_2" ORDER="2" ORDERLABEL="ii"/>
 <m:div TYPE="page" ID="P1_3" ORDER="3" ORDERLABEL="1"/>
 <m:div TYPE="page" ID="P2_09" ORDER="4" ORDERLABEL="2" LABEL="Titel"/>
 <m:div TYPE="page" ID="P2_10" ORDER="5" CONTENTIDS="urn:5"/>
</m:div></m:structMap>
<m:structLink><m:smLink x:from="LOG_1" x:to="P1_1"/><m:smLink x:from="LOG_2" x:to="P1_2"/>
 <m:smLink x:from="LOG_2" x:to="P1_3"/><m:smLink x:from="LOG_3" x:to="P2_09"/>
 <m:smLink x:from="LOG_3" x:to="GONE"/></m:structLink>
</m:mets>"""
ALL = ["P1_1", "P1_2", "P1_3", "P2_09", "P2_10"]


@pytest.mark.parametrize(
    ("page_id", "pages"),
    [
        ("", "P1_1 P1_2 P1_3 P2_09 P2_10"),
        ("P1_2", "P1_2"),
        ("P2_10,P1_2,P1_2", "P1_2 P2_10"),
        ("P1_1..P1_3", "P1_1 P1_2 P1_3"),
        ("P1_2..P1_99999999999", "P1_2 P1_3"),
        ("P2_09..P2_10", "P2_09 P2_10"),
        ("P2_00..P2_09", "P2_09"),
        ("//P1_.*", "P1_1 P1_2 P1_3"),
        (r"//.*_\d{2}", "P2_09 P2_10"),
        ("//P1_1|P2_10", "P1_1 P2_10"),
        ("~P1_2", "P1_1 P1_3 P2_09 P2_10"),
        ("P1_1..P1_3,~P1_2", "P1_1 P1_3"),
        ("~//P1.*,~P2_09", "P2_10"),
        ("4", "P2_09"),
        ("physical:order:2..4", "P1_2 P1_3 P2_09"),
        ("physical:orderlabel:2", "P2_09"),
        ("physical:Titel", "P1_1 P2_09"),
        ("Titel", "P1_1 P2_09"),
        ("urn:5", "P2_10"),
        ("physical:order:~1", "P1_2 P1_3 P2_09 P2_10"),
        ("logical:LOG_2", "P1_2 P1_3"),
        ("logical:type:chapter", "P1_2 P1_3 P2_09"),
        ("logical:id:LOG_2..LOG_3", "P1_2 P1_3 P2_09"),
        ("logical:label://Was ist.*", "P1_1"),
        ("logical:dmdid:D1", "P1_2 P1_3"),
        ("chapter,~LOG_3", "P1_2 P1_3"),
    ],
)
def test_pages_can_be_selected_in_all_of_these_ways(page_id: str, pages: str) -> None:
    assert Mets.parse(METS.encode()).resolve(page_id) == pages.split()


@pytest.mark.parametrize(
    ("page_id", "reason"),
    [
        ("P9", "No page matches 'P9'"),
        ("P1_1,P9", "No page matches 'P9'"),
        ("P1_1,~P9", "No page matches '~P9'"),
        ("P7_1..P7_9", r"No page matches 'P7_1\.\.P7_9'"),
        ("P1_3..P1_1", "No page matches"),
        ("P1_1..P2_10", "same text before"),
        ("P1_1..", "must end with a number"),
        ("a..b", "must end with a number"),
        ("//P3.*", "No page matches"),
        ("//P", "No page matches"),
        ("//", "expression is empty"),
        ("//(", "missing"),
        ("P1_1,", "the part is empty"),
        (",", "the part is empty"),
        ("~", "the part is empty"),
        ("physical:", "the part is empty"),
        ("logical:type:chapter1..chapter2", "No page matches"),
        ("P1_1,~P1_1", "No pages are selected"),
        ("x" * (1 << 20) + "x", "more than"),
    ],
    ids=lambda text: text[:20],
)
def test_an_expression_without_pages_is_refused(page_id: str, reason: str) -> None:
    with pytest.raises(ocrd_errors.PageIdsInvalid, match=reason):
        Mets.parse(METS.encode()).resolve(page_id)


@pytest.mark.parametrize(
    "expression", ["(a*)*b", "(a|a)*b", "(a|aa)+$b", "(.*)*(.*)*(.*)*b", "a*" * 99, "(a?){99}b"]
)
def test_regular_expressions_with_exponential_cost_end(expression: str) -> None:
    page = f'<m:div TYPE="page" ID="{"a" * 100_000}c"/>'
    document = METS.replace('<m:div TYPE="physSequence">', f'<m:div TYPE="physSequence">{page}')

    with pytest.raises(ocrd_errors.PageIdsInvalid, match="No page matches"):
        Mets.parse(document.encode()).resolve(f"//{expression}")


def test_too_many_steps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_ids, "_STEPS", 10)
    assert Mets.parse(METS.encode()).resolve("//P.*") == ALL

    with pytest.raises(ocrd_errors.PageIdsInvalid, match="takes too long"):
        Mets.parse(METS.encode()).resolve("//P1_1,//P1_2,//P1_3")


@pytest.mark.parametrize(
    "expression",
    [
        *("(", ")", "a)", "[", "[a", "*", "a**", "+a", "a++", "\\", "[z-a]"),
        *("(?=a)", "(?!a)", "(?<=a)", r"(a)\1", r"\Z", "a{1001}", "((((a?){99}){99}){99}){99}"),
        "a" * 201,
    ],
    ids=lambda text: text[:20],
)
def test_unsupported_regular_expressions_are_refused(expression: str) -> None:
    with pytest.raises(ocrd_errors.PageIdsInvalid, match="is invalid"):
        Mets.parse(METS.encode()).resolve(f"//{expression}")


LABELS = {"Käfer": ["P1"], "Kaefer": ["P2"], "Seite ١": ["P3"], "a-b]": ["P4"], "Σ\u2003x": ["P5"]}


@pytest.mark.parametrize(
    "expression",
    [
        *(r"K\wfer", r"\w+", r"Seite \d", r"\S+", r"\D+", r"[\w-]+\]", r"[^\w]*\w+", r"\w\sx"),
        *(r"[^\s\d]+", r"[]\w-]+", r"[^]\d]+", r"[\[\w]+", r"\W*", r"[\D]+", r"\\w", r".+\W.+"),
    ],
)
def test_classes_match_as_in_python(expression: str) -> None:
    expected = {page for text, (page,) in LABELS.items() if re.fullmatch(expression, text)}

    def resolved() -> set[str]:
        return set(page_ids.resolve(f"physical:label://{expression}", pages, lambda _name: LABELS))

    pages = ["P1", "P2", "P3", "P4", "P5"]
    if expected:
        assert resolved() == expected
    else:
        with pytest.raises(ocrd_errors.PageIdsInvalid, match="No page matches"):
            resolved()


@pytest.mark.parametrize("expression", [r"[\W]+", r"[^a\S]"])
def test_classes_that_cannot_match_as_in_python_are_rejected(expression: str) -> None:
    with pytest.raises(ocrd_errors.PageIdsInvalid, match="in brackets is not supported"):
        Mets.parse(METS.encode()).resolve(f"//{expression}")
