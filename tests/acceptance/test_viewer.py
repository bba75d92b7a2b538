"""The viewer of the web page: words over the image, search, documents with hundreds of pages."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from playwright.sync_api import Browser, Locator, Page, expect

from tests import documents
from tests.acceptance.conftest import row, visit
from tests.conftest import Stack, submit, wait_for_end, wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("featured")]

LINES = ("The garden gate", "A kitchen door", "Another garden")


@pytest.fixture(scope="module")
def library(featured: Stack) -> Stack:
    """A stack with finished documents."""
    with featured.client() as http:
        sent = [
            submit(http, ("many.pdf", documents.many_pages(60)), pages="1"),
            submit(http, ("spoilt.pdf", documents.scan("a", "b")), title="fault: crash 2"),
            submit(http, ("signed.pdf", documents.signed()), allow_signed="true"),
            submit(http, ("unsure.png", blurred("Hardly to be read"))),
            submit(http, ("book.pdf", documents.scan(*LINES)), mode="force"),
        ]
        for answer in sent:
            assert wait_for_end(http, answer.json())["state"] == "succeeded"
    return featured


def blurred(text: str) -> bytes:
    image = documents.picture(text).filter(ImageFilter.GaussianBlur(9))
    return documents.encoded(image, "PNG", dpi=(150, 150))


@pytest.fixture
def page(browser: Browser, library: Stack) -> Iterator[Page]:
    with visit(browser, library) as opened:
        opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield opened


@pytest.fixture
def fresh_page(browser: Browser, library: Stack) -> Iterator[Page]:
    """Opens the page in its own context."""
    with visit(browser, library, fresh=True) as opened:
        yield opened


def read(page: Page, name: str) -> Locator:
    """Opens a document from the list."""
    row(page, name).get_by_role("button", name=re.compile("^View:")).click()
    viewer = page.get_by_role("dialog", name=name)
    expect(viewer.get_by_text(re.compile("^Page 1: (done|unchanged)"))).to_be_visible()
    return viewer


def words(viewer: Locator) -> Locator:
    return viewer.locator("#page-words span")


def place(element: Locator, sheet: Locator) -> list[float]:
    """Returns left, top, right and bottom of an element, as fractions of the page."""
    inner, outer = element.bounding_box(), sheet.bounding_box()
    assert inner
    assert outer
    left, top = inner["x"] - outer["x"], inner["y"] - outer["y"]
    return [
        left / outer["width"],
        top / outer["height"],
        (left + inner["width"]) / outer["width"],
        (top + inner["height"]) / outer["height"],
    ]


def clipboard(page: Page) -> str:
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text


def test_words_are_at_their_positions_on_the_image(page: Page) -> None:
    viewer = read(page, "book.pdf")
    pen = ImageDraw.Draw(Image.new("L", (1240, 500)))
    font = ImageFont.load_default(80)
    before = 100.0
    for index, word in enumerate(LINES[0].split()):
        drawn = pen.textbbox((before, 150), word, font=font)
        before += pen.textlength(f"{word} ", font=font)
        element = words(viewer).nth(index)
        expect(element).to_have_text(word)
        found = place(element, viewer.locator("#sheet"))
        wanted = [drawn[0] / 1240, drawn[1] / 500, drawn[2] / 1240, drawn[3] / 500]
        assert found == pytest.approx(wanted, abs=0.02)
        # The letters fill their box, which makes the selection match the image.
        wide = element.evaluate(
            "e => { const r = new Range(); r.selectNodeContents(e); "
            "return r.getBoundingClientRect().width / e.getBoundingClientRect().width }"
        )
        assert wide == pytest.approx(1, abs=0.1)


def test_words_can_be_selected_and_copied_in_place(page: Page) -> None:
    viewer = read(page, "book.pdf")
    first, last = words(viewer).first.bounding_box(), words(viewer).nth(2).bounding_box()
    assert first
    assert last
    page.mouse.move(first["x"] + 1, first["y"] + first["height"] / 2)
    page.mouse.down()
    page.mouse.move(last["x"] + last["width"] - 1, last["y"] + last["height"] / 2, steps=5)
    page.mouse.up()
    page.keyboard.press("Control+c")

    assert clipboard(page) == LINES[0]


def test_the_text_of_a_page_and_of_all_pages_can_be_copied(page: Page) -> None:
    viewer = read(page, "book.pdf")
    viewer.get_by_role("button", name="Next page").click()
    expect(viewer.get_by_label("Text of the page")).to_have_text(LINES[1])
    viewer.get_by_role("button", name="Copy page").click()
    expect(viewer.get_by_role("button", name="Copied")).to_be_visible()
    assert clipboard(page) == LINES[1]
    viewer.get_by_role("button", name="Copy all").click()

    expect(viewer.get_by_role("button", name="Copied")).to_have_count(2)
    assert clipboard(page) == "\n\n".join(LINES)


def test_a_page_without_https_can_copy_too(page: Page) -> None:
    """There, browsers have no clipboard for scripts."""
    viewer = read(page, "book.pdf")
    expect(viewer.get_by_label("Text of the page")).to_have_text(LINES[0])
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    viewer.get_by_role("button", name="Copy page").click()
    expect(viewer.get_by_role("button", name="Copied")).to_be_focused()
    viewer.get_by_label("Search the document").press("Control+v")

    expect(viewer.get_by_label("Search the document")).to_have_value(LINES[0])


def test_search_finds_and_highlights_matches_on_all_pages(page: Page) -> None:
    viewer = read(page, "book.pdf")
    page.keyboard.press("Control+f")
    field = viewer.get_by_label("Search the document")
    expect(field).to_be_focused()
    page.keyboard.type("GARDEN")
    expect(viewer.get_by_text("1 of 2")).to_be_visible()
    marked = viewer.locator("#page-words .now")
    expect(marked).to_have_text("garden")
    expect(viewer.get_by_label("Page number")).to_have_value("1")
    page.keyboard.press("Enter")
    expect(viewer.get_by_text("2 of 2")).to_be_visible()
    expect(viewer.get_by_label("Page number")).to_have_value("3")
    expect(viewer.get_by_label("Text of the page")).to_have_text(LINES[2])
    expect(marked).to_have_text("garden")
    if folder := os.environ.get("OCR_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "search.png")
    page.keyboard.press("Shift+Enter")
    expect(viewer.get_by_label("Page number")).to_have_value("1")
    field.fill("gate  the")
    expect(viewer.get_by_text("No matches")).to_be_visible()
    expect(viewer.get_by_role("button", name="Next match")).to_be_disabled()
    field.fill("garden  gate")
    expect(marked).to_have_text(["garden", "gate"])

    page.keyboard.press("Escape")
    expect(field).to_have_value("")
    expect(viewer).to_be_visible()
    expect(viewer.locator("#page-words .hit")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()


def test_special_characters_in_a_query_are_literal_and_line_breaks_do_not_divide_words(
    page: Page,
) -> None:
    found = page.evaluate(
        """async () => {
          const { pattern, passages } = await import("/static/viewer/finding.js");
          const find = (text, query) =>
            passages(text, pattern(query)).map(([from, to]) => text.slice(from, to));
          return [
            find("a.b axb (c) [d] \\\\ $", "a.b"), find("(c)+", "(c)+"), find("a\\\\b", "a\\\\b"),
            find("the win-\\ndow and window", "Window"), find("two\\n\\nwords", "two words"),
            find("Straße STRASSE Größe", "größe"), find("don’t", "don't"),
            find("“so”", '"so"'), find("1784–85", "1784-85"), pattern("  "),
            find("Dieſes", "dieses"),
          ];
        }"""
    )

    assert found == [
        ["a.b"], ["(c)+"], ["a\\b"], ["win-\ndow", "window"], ["two\n\nwords"], ["Größe"],
        ["don’t"], ["“so”"], ["1784–85"], None, ["Dieſes"],
    ]  # fmt: skip


def test_words_with_low_confidence_are_marked_on_request(page: Page) -> None:
    viewer = read(page, "unsure.png")
    # It has one page, and no thumbnails; the page keeps its size nevertheless.
    sheet, text = viewer.locator("#sheet").bounding_box(), viewer.locator("pre").bounding_box()
    assert sheet
    assert text
    assert 400 < sheet["width"] < 800
    assert 300 < text["width"] < 800
    unsure = viewer.locator("#page-words .unsure").first
    expect(unsure).to_have_attribute("title", re.compile(r" · \d+ % confidence$"))
    shadow = "getComputedStyle(document.querySelector('.unsure')).boxShadow"
    assert page.evaluate(shadow) == "none"
    button = viewer.get_by_role("button", name="Low-confidence words")
    button.click()

    expect(button).to_have_attribute("aria-pressed", "true")
    assert page.evaluate(shadow) != "none"


def test_back_closes_the_viewer_and_a_link_opens_a_page(page: Page, library: Stack) -> None:
    viewer = read(page, "book.pdf")
    page.keyboard.press("ArrowRight")
    expect(viewer.get_by_label("Text of the page")).to_have_text(LINES[1])
    link = page.url
    assert link.endswith("&page=2")
    page.go_back()
    expect(viewer).to_be_hidden()
    expect(page).to_have_url(f"{library.url}/")
    page.go_forward()
    expect(viewer.get_by_label("Text of the page")).to_have_text(LINES[1])
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(page).to_have_url(f"{library.url}/")

    page.goto("about:blank")
    page.goto(link)
    expect(viewer.get_by_label("Text of the page")).to_have_text(LINES[1])
    viewer.get_by_role("button", name="Close").click()
    expect(viewer).to_be_hidden()
    expect(page).to_have_url(f"{library.url}/")
    expect(row(page, "book.pdf").get_by_role("button", name=re.compile("^View:"))).to_be_visible()
    page.go_back()
    assert page.url == "about:blank"


def test_the_focus_returns_to_its_previous_element(page: Page) -> None:
    viewer = read(page, "book.pdf")
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    button = row(page, "book.pdf").get_by_role("button", name=re.compile("^View:"))
    expect(button).to_be_focused()
    button.click()
    expect(viewer).to_be_visible()
    # The entry has other buttons by now.
    row(page, "book.pdf").locator(".actions").evaluate(
        "actions => actions.replaceChildren(...[...actions.children].map(e => e.cloneNode(true)))"
    )
    page.keyboard.press("Escape")

    expect(row(page, "book.pdf").locator(":focus")).to_have_count(1)


def test_after_a_document_is_deleted_the_focus_is_on_the_next_one(
    page: Page, library: Stack
) -> None:
    with library.client() as http:
        wait_for_end(http, submit(http, ("gone.pdf", documents.scan("gone"))).json())
    page.reload()
    button = row(page, "gone.pdf").get_by_role("button", name=re.compile("^Delete"))
    next_one = row(page, "gone.pdf").locator("xpath=following-sibling::li[1]").locator("h3")
    name = next_one.inner_text()
    button.focus()
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="gone.pdf")).to_have_count(0)
    expect(row(page, name).locator(":focus")).to_have_count(1)


def test_of_many_pages_only_the_visible_ones_are_requested(page: Page) -> None:
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(request.url) if "/image" in request.url else None)
    viewer = read(page, "many.pdf")
    cells = viewer.locator("#strip li")
    expect(viewer.get_by_role("button", name="Page 1, done")).to_be_visible()
    expect(viewer.locator("#strip img").first).to_be_visible()
    assert 5 < cells.count() < 20
    assert len(asked) < 20
    viewer.get_by_label("Page number").fill("50")
    viewer.get_by_label("Page number").press("Enter")
    current = viewer.get_by_role("button", name="Page 50, unchanged")
    expect(current).to_have_attribute("aria-current", "page")
    expect(current).to_be_in_viewport()
    expect(current.locator("img")).to_be_visible()

    assert cells.count() < 25
    assert len(asked) < 40
    assert not any("/pages/30/" in url for url in asked)


def test_a_failed_page_shows_the_reason_and_can_be_retried(page: Page, library: Stack) -> None:
    said = row(page, "spoilt.pdf")
    expect(said.get_by_text("but OCR failed on 1 page: 2")).to_be_visible()
    viewer = read(page, "spoilt.pdf")
    viewer.get_by_role("button", name="Page 2, OCR failed").click()
    note = viewer.get_by_text("Page 2: OCR failed, ")
    expect(note).to_be_visible()
    reason = note.inner_text().partition("failed, ")[2]
    assert len(reason) > 10
    expect(viewer.get_by_label("Text of the page")).to_contain_text(reason[:20])
    with page.expect_response(re.compile("/retry$")) as answer:
        viewer.get_by_role("button", name="Retry failed pages").click()

    assert answer.value.status == 202
    with library.client() as http:
        ended = wait_for_end(http, answer.value.json())
    assert ended["attempt"] == 2
    # The document is unchanged and therefore fails again.
    expect(viewer.get_by_role("button", name="Retry failed pages")).to_be_visible()
    expect(note).to_be_visible()


def test_warnings_are_shown(page: Page, library: Stack) -> None:
    with library.client() as http:
        jobs: list[dict[str, Any]] = http.get("/v1/jobs").json()["jobs"]
    warnings = next(job for job in jobs if job["input"]["name"] == "signed.pdf")["warnings"]
    shown = row(page, "signed.pdf").locator(".remarks")
    shown.get_by_text(f"{len(warnings)} warnings").click()

    expect(shown.get_by_role("listitem")).to_have_text(warnings)


def test_a_hidden_tab_keeps_no_stream_open(fresh_page: Page, library: Stack) -> None:
    page = fresh_page
    page.add_init_script(
        """window.streams = [];
        window.EventSource = class extends EventSource {
          constructor(...all) { super(...all); window.streams.push(this); }
        };"""
    )
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    hide += "document.dispatchEvent(new Event('visibilitychange'))"
    opened = "window.streams.some(stream => stream.readyState === 1)"
    with library.client() as http:
        # It does not end automatically.
        job = submit(http, ("waits.pdf", documents.scan("w")), title="fault: hang 1").json()
        page.reload()
        wait_until(lambda: page.evaluate(opened))
        page.evaluate(hide % "true")
        assert page.evaluate("window.streams.every(stream => stream.readyState === 2)")
        page.evaluate(hide % "false")
        wait_until(lambda: page.evaluate(opened))
        http.delete(job["links"]["self"])
        expect(row(page, "waits.pdf")).to_have_count(0)


def test_the_layout_of_the_viewer_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    viewer = read(page, "book.pdf")
    expect(viewer.get_by_label("Text of the page")).to_have_text(LINES[0])
    for control in viewer.locator("header, nav, .find, #sheet, #page-text").all():
        box = control.bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
    image, text = viewer.locator("#sheet").bounding_box(), viewer.locator("pre").bounding_box()
    assert image
    assert text
    assert text["y"] >= image["y"] + image["height"]
    if folder := os.environ.get("OCR_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "viewer-phone.png")


def test_a_document_without_a_text_file_is_searched_page_by_page(
    page: Page, library: Stack
) -> None:
    """Like one that is still being processed."""
    with library.client() as http:
        document = documents.scan("A lonely word", "another page")
        job = submit(http, ("silent.pdf", document), sidecar="false").json()
        wait_for_end(http, job)
    page.reload()
    viewer = read(page, "silent.pdf")
    with page.expect_response(re.compile("/pages/2/text")):
        viewer.get_by_label("Search the document").fill("PAGE")
    expect(viewer.get_by_text("1 of 1")).to_be_visible()

    expect(viewer.get_by_label("Page number")).to_have_value("2")
    expect(viewer.locator("#page-words .now")).to_have_text("page")
