"""Signing in on the web page, in a real Chromium, if the server requires tokens."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.acceptance.accessibility import check
from tests.acceptance.conftest import (
    ask_for_fault,
    make_token,
    open_gate,
    picture,
    revoke,
    row,
    visit,
)
from tests.acceptance.test_main_job import text_of
from tests.acceptance.test_page import SCAN
from tests.conftest import Stack, submit

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("closed")]


@pytest.fixture
def page(browser: Browser, closed: Stack) -> Iterator[Page]:
    """Opens the page like a first visit."""
    with visit(browser, closed) as opened:
        expect(dialog(opened)).to_be_visible()
        yield opened


def dialog(page: Page) -> object:
    return page.get_by_role("dialog", name="Sign in to OCR Tasks")


def sign_in(page: Page, token: str) -> None:
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    expect(dialog(page)).to_be_hidden()


def picture_of(page: Page, name: str) -> None:
    if folder := os.environ.get("OCR_SCREENSHOTS"):
        page.wait_for_timeout(300)
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_a_user_signs_in_processes_a_document_and_signs_out(
    page: Page, closed: Stack, tmp_path: Path
) -> None:
    picture_of(page, "sign-in")
    sign_in(page, make_token(closed, "submit", "read", name="Anna's laptop"))
    expect(page.get_by_label("English")).to_be_visible()
    expect(page.get_by_text("Anna's laptop")).to_be_visible()

    ask_for_fault(page, "fault: gate")
    with (
        page.expect_response(re.compile("/events")) as stream,
        page.expect_response(re.compile("/v1/jobs$")) as sent,
    ):
        page.get_by_label("Choose files").set_input_files([picture("mine.png", "my own words")])
    assert stream.value.status == 200
    open_gate(closed, sent.value.json())
    mine = row(page, "mine.png")
    expect(mine.get_by_text("Done in")).to_be_visible()
    mine.get_by_role("button", name=re.compile("^View")).click()
    image = page.get_by_role("img", name="Image of page 1")
    expect(image).to_be_visible()
    assert image.evaluate("image => image.naturalWidth") > 0
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        mine.get_by_role("link", name=re.compile("Download PDF")).click()
    download.value.save_as(tmp_path / "out.pdf")
    assert text_of((tmp_path / "out.pdf").read_bytes()).split() == ["my", "own", "words"]
    picture_of(page, "signed-in")
    page.reload()
    expect(mine.get_by_text("Done in")).to_be_visible()
    expect(dialog(page)).to_be_hidden()

    page.get_by_role("button", name="Sign out").click()

    expect(dialog(page)).to_be_visible()
    expect(page.get_by_role("heading", name="mine.png", include_hidden=True)).to_have_count(0)
    assert page.context.cookies() == []
    expect(page.get_by_role("button", name="Sign out", include_hidden=True)).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_signing_in_is_accessible(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.get_by_label("Token").fill("nonsense")
    page.keyboard.press("Enter")
    expect(page.get_by_text("not valid")).to_be_visible()

    check(page)


def test_no_script_can_read_the_token_and_it_is_stored_nowhere_else(
    page: Page, closed: Stack
) -> None:
    token = make_token(closed, "submit", "read")
    sign_in(page, token)
    expect(page.get_by_label("English")).to_be_visible()

    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    kept = "[document.cookie, JSON.stringify(localStorage), location.href, document.body.innerHTML,"
    kept += " document.getElementById('token').value].join()"
    assert token[-64:] not in page.evaluate(kept)


def test_a_wrong_token_is_reported_and_can_be_corrected_with_the_keyboard(
    page: Page, closed: Stack
) -> None:
    expect(page.get_by_label("Token")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog(page)).to_be_visible()
    page.keyboard.type("nonsense")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="not valid")).to_be_visible()
    picture_of(page, "sign-in-wrong")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(dialog(page)).to_be_visible()
    expect(page.get_by_label("Token")).to_be_focused()

    page.keyboard.type(make_token(closed, "read"))
    page.keyboard.press("Tab")
    page.keyboard.press("Space")

    expect(dialog(page)).to_be_hidden()


def test_a_token_with_the_scope_read_only_shows_no_upload(page: Page, closed: Stack) -> None:
    sign_in(page, make_token(closed, "read"))

    expect(page.get_by_text("Nothing here yet")).to_be_visible()
    expect(page.get_by_label("Choose files")).to_be_hidden()


def test_a_token_without_the_scope_read_cannot_sign_in(page: Page, closed: Stack) -> None:
    page.get_by_label("Token").fill(make_token(closed, "submit"))
    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("alert").filter(has_text="the scope read")).to_be_visible()
    assert page.context.cookies() == []


def test_when_the_token_is_revoked_the_page_asks_again_and_shows_nothing_to_another_user(
    page: Page, closed: Stack
) -> None:
    token = make_token(closed, "submit", "read")
    sign_in(page, token)
    page.get_by_label("Choose files").set_input_files([picture("secret.png", "between us")])
    expect(row(page, "secret.png").get_by_text("Done in")).to_be_visible()

    revoke(closed, token)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(dialog(page)).to_be_visible()
    sign_in(page, make_token(closed, "submit", "read"))

    expect(page.get_by_text("Nothing here yet")).to_be_visible()
    expect(page.get_by_role("heading", name="secret.png")).to_have_count(0)


def test_an_upload_resumes_after_signing_in_again(page: Page, closed: Stack) -> None:
    token = make_token(closed, "submit", "read")
    sign_in(page, token)
    expect(page.get_by_label("English")).to_be_visible()
    page.context.clear_cookies()

    page.get_by_label("Choose files").set_input_files(SCAN)
    expect(dialog(page)).to_be_visible()
    sign_in(page, token)

    expect(row(page, SCAN.name).get_by_text("Done in")).to_be_visible()


def test_users_see_only_their_own_documents(page: Page, closed: Stack) -> None:
    other = {"Authorization": f"Bearer {make_token(closed, 'submit', 'read')}"}
    with httpx.Client(base_url=closed.url, headers=other, timeout=60) as http:
        job = submit(http, SCAN).json()
    sign_in(page, make_token(closed, "submit", "read"))
    expect(page.get_by_text("Nothing here yet")).to_be_visible()

    page.evaluate(f"location.hash = 'job={job['id']}'")
    expect(page.get_by_text("The job does not exist.")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_dialog_fits_a_phone(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": 320, "height": 600})
    page.get_by_label("Token").fill("nonsense")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert").filter(has_text="not valid")).to_be_visible()

    box = dialog(page).bounding_box()
    assert box
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 320
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    picture_of(page, f"sign-in-phone-{scheme}")


def test_a_page_of_another_origin_can_neither_change_nor_read_anything(
    page: Page, closed: Stack
) -> None:
    """A page on another port of this host, which is the same site for cookies."""
    sign_in(page, make_token(closed, "submit", "read"))
    there = page.context.new_page()
    there.route(
        "http://127.0.0.1:9/",
        lambda route: route.fulfill(
            body=f"<form method=post action={closed.url}/v1/jobs/x/cancel><button>Win</button>",
            content_type="text/html",
        ),
    )
    there.goto("http://127.0.0.1:9/")
    read = "url => fetch(url, {credentials: 'include'}).then(r => r.text(), () => 'blocked')"
    assert there.evaluate(read, f"{closed.url}/v1/session") == "blocked"

    with there.expect_navigation() as answer:
        there.get_by_role("button", name="Win").click()

    assert "ocr_token" in answer.value.request.all_headers().get("cookie", "")
    assert answer.value.status == 403
    assert answer.value.json()["code"] == "cross_site"
