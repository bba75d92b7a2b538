"""Accessibility of the web page: WCAG 2.2 AA with axe, keyboard, languages, and download size."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import documents
from tests.acceptance.accessibility import check
from tests.acceptance.conftest import picture, row, visit
from tests.conftest import Stack, submit, wait_for_end, wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("stack")]

#: Bytes on disk of everything that a first visit loads, without documents.
MOST_BYTES = 100_000


@pytest.fixture(scope="module")
def book(stack: Stack) -> dict[str, Any]:
    """Returns a finished document."""
    with stack.client() as http:
        sent = submit(http, ("access.pdf", documents.scan("The garden", "The kitchen")))
        return wait_for_end(http, sent.json())


#: Combinations of language, width and color scheme.
VISITORS = {
    "english": {},
    "german in the dark": {"locale": "de-DE", "color_scheme": "dark"},
    "on a phone": {"viewport": {"width": 360, "height": 740}},
}


@contextlib.contextmanager
def waiting(stack: Stack) -> Iterator[None]:
    """Keeps a document running during the block, which keeps its list entry unchanged."""
    with stack.client() as http:
        made = submit(http, ("waits.pdf", documents.scan("w")), title="fault: gate").json()
        try:
            wait_until(lambda: http.get(made["links"]["self"]).json()["stage"] == "ocr")
            yield
        finally:
            http.delete(made["links"]["self"])


@pytest.mark.parametrize("visitor", VISITORS)
def test_list_dialogs_and_viewer_are_accessible(
    browser: Browser, stack: Stack, book: dict[str, Any], visitor: str
) -> None:
    with waiting(stack), visit(browser, stack, **VISITORS[visitor]) as page:
        expect(row(page, "waits.pdf").get_by_role("progressbar")).to_be_visible()
        page.locator("form details summary").click()
        check(page)
        # Tested separately, because an open menu covers what is below it.
        row(page, "access.pdf").locator(".actions summary").click()
        check(page, within="details[open] .menu")

        page.locator("#files").set_input_files([picture("a.png", "a"), picture("b.png", "b")])
        expect(page.locator("#ask")).to_be_visible()
        check(page)

        page.keyboard.press("Escape")
        page.evaluate(f"location.hash = 'job={book['id']}'")
        expect(page.locator("#page-text")).to_have_text("The garden")
        page.locator("#mark-unsure").click()
        page.locator("#find").fill("the")
        expect(page.locator("#found")).to_have_text(re.compile("^1 (of|von) 2$"))
        check(page)


@pytest.mark.parametrize(("language", "scheme"), [("en", "light"), ("de", "dark")])
def test_the_other_pages_are_accessible(
    browser: Browser, stack: Stack, language: str, scheme: str
) -> None:
    options = {"locale": language, "color_scheme": scheme}
    with visit(browser, stack, "/swarm", **options) as page:
        expect(page.locator("#at-once")).to_be_visible()
        check(page)
        page.set_viewport_size({"width": 360, "height": 740})
        page.goto(f"{stack.url}/docs")
        check(page)


# Keyboard


def tab_to(page: Page, arrived: Callable[[], bool], key: str = "Tab") -> None:
    """Presses Tab until the element is focused; the focus must be visible at each step."""
    for _ in range(60):
        page.keyboard.press(key)
        seen = page.evaluate(
            """() => {
              const at = document.activeElement;
              if (at === document.body) return true; // between the end and the start
              const around = at.closest(".drop") ?? at;
              const { outlineStyle, outlineWidth } = getComputedStyle(around);
              return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
            }"""
        )
        assert seen, page.evaluate("document.activeElement.outerHTML")
        if arrived():
            return
    raise AssertionError("it cannot be reached by Tab")


def test_everything_can_be_done_with_the_keyboard_and_the_focus_is_visible(
    browser: Browser, stack: Stack, book: dict[str, Any]
) -> None:
    with visit(browser, stack) as page:
        expect(row(page, "access.pdf")).to_be_visible()

        def at(name: str) -> Callable[[], bool]:
            wanted = name if name.startswith("#") else f"[aria-label='{name}']"
            return lambda: page.locator(f"{wanted}:focus").count() == 1

        tab_to(page, at("#files"))
        tab_to(page, at("View: access.pdf"))
        page.keyboard.press("Enter")
        expect(page.locator("#page-text")).to_have_text("The garden")
        expect(page.locator("#table")).to_be_focused()
        page.keyboard.press("ArrowRight")
        expect(page.locator("#page-text")).to_have_text("The kitchen")
        tab_to(page, at("#page-text"))
        tab_to(page, at("Page 2, done"), "Shift+Tab")
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#page-text")).to_have_text("The garden")
        page.keyboard.press("/")
        page.keyboard.type("kitchen")
        page.keyboard.press("Enter")
        expect(page.locator("#found")).to_have_text("1 of 1")
        tab_to(page, at("#mark-unsure"))
        page.keyboard.press("Space")
        expect(page.locator("#mark-unsure")).to_have_attribute("aria-pressed", "true")
        page.keyboard.press("Escape")
        expect(page.locator("#viewer")).to_be_hidden()
        expect(page.get_by_role("button", name="View: access.pdf")).to_be_focused()
        tab_to(page, at("More: access.pdf"))
        page.keyboard.press("Enter")
        tab_to(page, at("Text: access.pdf"))
        page.keyboard.press("Escape")
        expect(page.get_by_role("link", name="hOCR: access.pdf")).to_be_hidden()


def test_nothing_moves_with_reduced_motion(browser: Browser, stack: Stack) -> None:
    moving = """[...document.querySelectorAll("*")].map(e => getComputedStyle(e).transitionDuration)
      .filter(time => time !== "0s").length"""
    with visit(browser, stack) as page:
        bar = "() => document.querySelector('#jobs').insertAdjacentHTML('beforeend', "
        page.evaluate(bar + "'<li><div class=\"bar\"><div></div></div></li>')")
        assert page.evaluate(moving) > 0
        page.emulate_media(reduced_motion="reduce")
        assert page.evaluate(moving) == 0


# Languages


def test_the_page_supports_german_and_remembers_the_choice(
    browser: Browser, stack: Stack, book: dict[str, Any]
) -> None:
    with visit(browser, stack, locale="de-AT") as page:
        expect(page.get_by_label("Dateien auswählen")).to_be_attached()
        expect(page.get_by_label("Englisch")).to_be_checked()
        expect(row(page, "access.pdf").get_by_text("Fertig nach")).to_be_visible()
        broken = {"name": "a.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.7 <"}
        page.get_by_label("Dateien auswählen").set_input_files([broken])
        expect(row(page, "a.pdf").get_by_text("Das PDF ist zu stark beschädigt.")).to_be_visible()
        page.get_by_role("button", name="English").click()
        expect(page.get_by_label("Choose files")).to_be_attached()
        page.goto(f"{stack.url}/swarm")
        expect(page.get_by_role("button", name="Join")).to_be_visible()
        assert page.locator("html").get_attribute("lang") == "en"
        page.get_by_role("button", name="Deutsch").click()

        expect(page.get_by_text("Sprachen: Deutsch, Englisch")).to_be_visible()


# Download size, and installation in browsers


def test_a_first_visit_is_light(browser: Browser, stack: Stack) -> None:
    """With the largest of the languages, and with the viewer, which is loaded later."""
    sizes: dict[str, int] = {}
    with visit(browser, stack, "/docs", fresh=True, locale="de") as page:
        page.on("response", lambda answer: sizes.update({answer.url: len(answer.body())}))
        page.goto(stack.url)
        expect(page.get_by_label("Englisch")).to_be_visible()
        page.wait_for_load_state("networkidle")
    ours = {url: size for url, size in sizes.items() if "/v1/" not in url}

    assert f"{stack.url}/" in ours
    assert any(url.endswith("/app.js") for url in ours)
    assert any(url.endswith("/style.css") for url in ours)
    assert not any("/viewer/" in url for url in ours)
    assert sum(ours.values()) < MOST_BYTES


def test_cached_files_are_not_sent_again(browser: Browser, stack: Stack) -> None:
    with stack.client() as http:
        for path in ("/static/app.js", "/static/style.css", "/static/icon-192.png"):
            first = http.get(path)
            again = http.get(path, headers={"If-None-Match": first.headers["ETag"]})
            assert (first.status_code, again.status_code) == (200, 304)


def test_the_page_can_be_installed(browser: Browser, stack: Stack) -> None:
    with visit(browser, stack) as page:
        session = page.context.new_cdp_session(page)
        manifest = session.send("Page.getAppManifest")
        problems = session.send("Page.getInstallabilityErrors")["installabilityErrors"]
    assert manifest["errors"] == []
    # Contexts of tests are private windows, where nothing can be installed.
    assert {row["errorId"] for row in problems} <= {"in-incognito"}
    described = json.loads(manifest["data"])
    with stack.client() as http:
        for icon in described["icons"]:
            answer = http.get(f"/static/{icon['src']}")
            assert answer.headers["Content-Type"].partition(";")[0] == icon["type"]
            if icon["type"] == "image/png":
                width, height = (int.from_bytes(answer.content[at : at + 4]) for at in (16, 20))
                assert f"{width}x{height}" == icon["sizes"]


def test_a_user_of_another_tab_is_notified_when_a_document_is_done(
    browser: Browser, stack: Stack
) -> None:
    with waiting(stack), visit(browser, stack, permissions=["notifications"]) as page:
        page.add_init_script(
            """window.told = [];
            window.Notification = class extends Notification {
              constructor(text, options) { super(text, options); window.told.push(text); }
            };"""
        )
        page.reload()
        button = page.get_by_role("button", name="Notify me when done")
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
        page.get_by_label("Choose files").set_input_files([picture("seen.png", "seen")])
        expect(row(page, "seen.png").get_by_text("Done in")).to_be_visible()
        page.evaluate(
            "Object.defineProperty(document, 'hidden', {value: true});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        page.get_by_label("Choose files").set_input_files([picture("unseen.png", "unseen")])
        expect(row(page, "unseen.png").get_by_text("Done in")).to_be_visible()

        assert page.evaluate("window.told") == ["unseen.png is done"]
        assert re.match(r"\(\d+\) OCR Tasks", page.title().partition("% ")[2] or page.title())
