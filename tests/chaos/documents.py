"""Small scans with words on each page that identify it and are easy to recognize."""

from __future__ import annotations

import io
import itertools

from PIL import Image, ImageDraw, ImageFont

_WORDS = (
    *("ALFA", "BRAVO", "CHARLIE", "DELTA", "FOXTROT", "HOTEL", "INDIA", "JULIETT", "KILO", "LIMA"),
    *("NOVEMBER", "OSCAR", "PAPA", "ROMEO", "SIERRA", "TANGO", "UNIFORM", "VICTOR"),
    *("WHISKEY", "YANKEE", "ZULU"),
)
_NUMBERS = ("ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT")

#: The maximum number of pages of a document.
MOST_PAGES = len(_NUMBERS)

_SIZE, _DPI = (1100, 500), 150


def codes() -> itertools.permutations[str]:
    """Returns different combinations of three words, one for each document."""
    return itertools.permutations(_WORDS, 3)


def words_of(code: tuple[str, ...], page: int) -> set[str]:
    """Returns the words of a page, with a 1-based number."""
    return {*code, "PAGE", _NUMBERS[page - 1]}


def scan(code: tuple[str, ...], pages: int, title: str = "") -> bytes:
    """Returns a PDF of images."""
    images = [_page(code, number) for number in range(1, pages + 1)]
    buffer = io.BytesIO()
    images[0].save(
        buffer, "PDF", save_all=True, append_images=images[1:], resolution=_DPI, title=title
    )
    return buffer.getvalue()


def _page(code: tuple[str, ...], number: int) -> Image.Image:
    image = Image.new("L", _SIZE, 245)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=56)
    # Far apart, because Tesseract otherwise recognizes "DELTA INDIA" as one word.
    draw.text((60, 80), "   ".join(code), font=font, fill=20)
    draw.text((60, 240), f"PAGE {_NUMBERS[number - 1]}", font=font, fill=20)
    return image
