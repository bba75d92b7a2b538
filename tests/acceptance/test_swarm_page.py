"""The page that makes a browser a device of the swarm, in a real Chromium."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Browser, Page, Route, expect

from tests.acceptance.conftest import PATIENCE, make_token
from tests.acceptance.test_sign_in import dialog, sign_in
from tests.commands import run
from tests.conftest import Stack, wait_until
from tests.parts import another_web, web_server

pytestmark = pytest.mark.acceptance

VENDOR = Path(__file__).parents[2] / "web" / "site" / "static" / "swarm" / "vendor"

#: The EXIF orientation of an image that is stored rotated to the left.
ON_ITS_SIDE = 6


@pytest.fixture(scope="module", autouse=True)
def assets() -> None:
    assert (VENDOR / "worker.min.js").is_file(), "make swarm-assets makes what this page needs"


@pytest.fixture(scope="module")
def quiet(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A web server whose pages no worker processes, without cross-checks."""
    folder = tmp_path_factory.mktemp("swarm")
    once = {"OCR_SWARM_CHECK_SHARE": "0", "OCR_SWARM_FAILURES_MAX": "1"}
    with web_server(folder, f"{redis_server}?db=9", **once) as web:
        yield web


@pytest.fixture
def page(browser: Browser, quiet: Stack) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1000, "height": 900})
    yield from opened(context.new_page(), quiet)
    context.close()
    manage(quiet, "purge", "--all")


def opened(page: Page, stack: Stack) -> Iterator[Page]:
    """The page, which must not request anything from other hosts, and must not log errors."""
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith((stack.url, "about:")) else wrong.append(request.url)
        ),
    )
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    page.goto(f"{stack.url}/swarm")
    yield page
    assert [text for text in wrong if not _expected(text)] == []


def _expected(text: str) -> bool:
    """Returns whether Chromium or Tesseract logs this because of what the tests provoke."""
    return text.startswith(("Failed to load resource", "Error in pix"))


def manage(stack: Stack, *words: str) -> str:
    """Returns the output of `ocr-tasks swarm …`."""
    return run(stack, "swarm", *words)


def draw(path: Path, words: str, **options: object) -> None:
    picture(words).save(path, dpi=(150, 150), **options)


def picture(words: str) -> Image.Image:
    image = Image.new("L", (900, 300), "white")
    ImageDraw.Draw(image).text((60, 100), words, fill=0, font=ImageFont.load_default(60))
    return image


def load(stack: Stack, folder: Path, **images: str) -> Path:
    """Loads PNG images with these words; returns the folder of their transcripts."""
    folder.mkdir(exist_ok=True)
    for name, words in images.items():
        draw(folder / f"{name}.png", words)
    manage(stack, "load", str(folder), "--languages", "eng", "--extensions", "png,jpg,bmp")
    return stack.data_dir / "swarm" / "transcripts" / folder.name


def counts(stack: Stack) -> dict[str, int]:
    found: dict[str, int] = httpx.get(f"{stack.url}/v1/swarm", verify=False).json()
    return found


def until(page: Page, question: Callable[[], object]) -> None:
    """Waits until the result is true, while Playwright handles events."""

    def ask() -> object:
        page.wait_for_timeout(50)
        return question()

    wait_until(ask, PATIENCE / 1000)


def join(page: Page) -> None:
    page.get_by_role("button", name="Join").click()


def state(page: Page, words: str) -> None:
    expect(page.get_by_role("status")).to_contain_text(words)


def picture_of(page: Page, name: str) -> None:
    if folder := os.environ.get("OCR_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"swarm-{name}.png")


def test_a_browser_processes_the_pages_of_a_collection(
    page: Page, quiet: Stack, tmp_path: Path
) -> None:
    folder = tmp_path / "letters"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = ON_ITS_SIDE
    photo = picture("upright after all").transpose(Image.Transpose.ROTATE_90)
    photo.save(folder / "photo.jpg", dpi=(150, 150), exif=exif)
    draw(folder / "old.bmp", "a plain bitmap")
    hostile = "<img src=x onerror=alert(1)>"
    transcripts = load(quiet, folder, **{hostile: "harmless words"})

    join(page)
    until(page, lambda: len(list(transcripts.glob("*.txt"))) == 3)
    state(page, "Waiting for pages")

    assert (transcripts / "photo.txt").read_text().strip() == "upright after all"
    assert (transcripts / "old.txt").read_text().strip() == "a plain bitmap"
    assert (transcripts / f"{hostile}.txt").read_text().strip() == "harmless words"
    assert 'title="bbox 0 0 900 300' in (transcripts / "photo.hocr").read_text()
    expect(page.locator("#pages")).to_have_text("3")
    expect(page.get_by_role("listitem").filter(has_text=hostile)).to_contain_text("2 words")
    expect(page.locator("#done")).to_have_text("3")


def test_leaving_releases_unfinished_pages(page: Page, quiet: Stack, tmp_path: Path) -> None:
    load(quiet, tmp_path / "held", one="not today")
    held: list[Route] = []
    page.route("**/image", lambda route: held.append(route))  # it never arrives
    join(page)
    until(page, lambda: counts(quiet)["leased"] == 1)
    state(page, "Processing pages")
    page.get_by_role("button", name="Leave").click()
    state(page, "not processing")
    until(page, lambda: counts(quiet)["waiting"] == 1)

    join(page)
    until(page, lambda: counts(quiet)["leased"] == 1)
    page.goto("about:blank")

    until(page, lambda: counts(quiet)["waiting"] == 1)
    for route in held:
        route.abort()


def test_a_page_that_fails_is_reported(page: Page, quiet: Stack, tmp_path: Path) -> None:
    load(quiet, tmp_path / "broken", one="never seen")
    page.route("**/image", lambda route: route.fulfill(body=b"\x89PNG no more"))
    join(page)

    expect(page.get_by_text("failed on this device")).to_be_visible()
    until(page, lambda: counts(quiet)["aside"] == 1)
    assert "in a browser: " in manage(quiet, "list", "--state", "aside")
    state(page, "Waiting for pages")


def test_the_lease_of_a_slow_page_is_renewed(page: Page, quiet: Stack, tmp_path: Path) -> None:
    load(quiet, tmp_path / "long", one="patience")
    held: list[Route] = []
    page.route("**/image", lambda route: held.append(route))
    page.clock.install()
    page.reload()
    join(page)
    until(page, lambda: held)

    with page.expect_response(re.compile("/renew$")) as renewed:
        page.clock.run_for(30_000)
    assert renewed.value.json() == {"seconds": 60}
    held[0].continue_()
    expect(page.locator("#pages")).to_have_text("1")


def test_without_tesseract_it_releases_its_pages_and_leaves(
    page: Page, quiet: Stack, tmp_path: Path
) -> None:
    load(quiet, tmp_path / "without", one="for others")
    page.route("**/eng.traineddata.gz", lambda route: route.fulfill(status=404))
    page.clock.install()
    page.reload()
    join(page)

    def left() -> bool:
        page.clock.run_for(2000)
        return page.get_by_text("Tesseract could not be loaded").is_visible()

    until(page, left)
    state(page, "not processing")
    until(page, lambda: counts(quiet)["waiting"] == 1)


def test_another_server_is_shown_and_not_contacted(page: Page) -> None:
    answer = {"pages": [], "retry_after": 2, "peer": "https://scans.example", "via": ["x"]}
    page.route("**/v1/swarm/leases", lambda route: route.fulfill(json=answer))
    join(page)
    link = page.get_by_role("link", name="scans.example")
    expect(link).to_have_attribute("href", "https://scans.example/swarm")
    answer["peer"] = "javascript:alert(1)"

    expect(link).to_be_hidden()


def test_a_lost_connection_is_reported_and_the_page_is_processed_later(
    page: Page, quiet: Stack, tmp_path: Path
) -> None:
    join(page)
    state(page, "Waiting for pages")
    page.context.set_offline(True)
    state(page, "cannot be reached")
    transcripts = load(quiet, tmp_path / "later", one="better late")
    page.context.set_offline(False)

    until(page, (transcripts / "one.txt").exists)
    state(page, "Waiting for pages")


def test_a_low_battery_pauses_it_unless_the_user_overrides_that(
    page: Page, quiet: Stack, tmp_path: Path
) -> None:
    page.add_init_script(
        "const low = Object.assign(new EventTarget(), { level: 0.1, charging: false });"
        "navigator.getBattery = async () => low;"
    )
    page.reload()
    transcripts = load(quiet, tmp_path / "low", one="enough power")
    join(page)
    state(page, "Paused because the battery is low")
    picture_of(page, "paused")
    assert counts(quiet)["leased"] == 0
    page.get_by_role("button", name="Continue anyway").click()
    until(page, (transcripts / "one.txt").exists)

    page.reload()
    expect(page.get_by_label("the battery is low")).to_be_checked()


def test_it_pauses_when_the_tab_is_hidden_for_long(page: Page) -> None:
    hide = (
        "hidden => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true "
        "}); document.dispatchEvent(new Event('visibilitychange')); }"
    )
    page.clock.install()
    page.reload()
    join(page)
    state(page, "Waiting for pages")
    page.evaluate(hide, True)
    page.clock.run_for(60_000)
    state(page, "Waiting for pages")
    page.clock.run_for(10 * 60_000)
    state(page, "Paused because this page is in the background")
    page.evaluate(hide, False)

    state(page, "Waiting for pages")


def test_settings_are_remembered_and_the_main_page_links_to_this_one(
    page: Page, quiet: Stack
) -> None:
    page.goto(quiet.url)
    page.get_by_role("link", name="Swarm").click()
    made_up = re.compile("[a-z]+-[a-z]+-[0-9]+")
    expect(page.get_by_label("Name of this device")).to_have_value(made_up)
    page.get_by_label("Name of this device").fill("Anna's phone")
    page.get_by_label("Pages at once").select_option("3")
    join(page)
    state(page, "Waiting for pages")
    expect(page.get_by_role("progressbar")).to_have_count(3)
    page.reload()

    expect(page.get_by_label("Name of this device")).to_have_value("Annas phone")
    expect(page.get_by_label("Pages at once")).to_have_value("3")
    devices = httpx.get(f"{quiet.url}/v1/swarm/devices").json()["devices"]
    assert "address/127.0.0.1/Annas phone" in [row["name"] for row in devices]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_layout_fits_a_phone(page: Page, quiet: Stack, tmp_path: Path, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": 360, "height": 780})
    long = "a-very-long-name-without-a-break-" * 5
    load(quiet, tmp_path / f"phone-{scheme}", **{long: "small screen"})
    join(page)
    expect(page.locator("#pages")).to_have_text("1")
    expect(page.get_by_text("2 words")).to_be_visible()
    picture_of(page, f"phone-{scheme}")

    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_with_access_control_it_asks_for_a_token_with_the_scope_swarm(
    browser: Browser, quiet: Stack, tmp_path: Path
) -> None:
    with another_web(quiet, OCR_ACCESS="tokens") as closed:
        context = browser.new_context()
        held: list[Route] = []
        for page in opened(context.new_page(), closed):
            expect(dialog(page)).to_be_visible()
            picture_of(page, "sign-in")
            page.get_by_label("Token").fill(make_token(closed, "submit", "read"))
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("alert").filter(has_text="the scope swarm")).to_be_visible()
            sign_in(page, make_token(closed, "swarm", name="Anna's phone"))
            expect(page.get_by_text("Anna's phone")).to_be_visible()
            transcripts = load(closed, tmp_path / "secret", one="for members")
            join(page)
            until(page, (transcripts / "one.txt").exists)

            load(closed, tmp_path / "unread", one="not by this one")
            page.route("**/image", lambda route: held.append(route))
            until(page, lambda: held)
            page.get_by_role("button", name="Sign out").click()
            expect(dialog(page)).to_be_visible()
            assert "waiting      1" in manage(closed, "stats")
            sign_in(page, make_token(closed, "swarm"))

            # Such a token cannot access documents, and the page of documents reports that.
            page.goto(closed.url)
            expect(dialog(page)).to_be_visible()
            expect(page.get_by_role("alert").filter(has_text="the scope read")).to_be_visible()
        context.close()
        manage(closed, "purge", "--all")
