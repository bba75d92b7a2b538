"""Folders of images, and transcripts of devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import redis
from PIL import Image

from ocr_tasks import settings
from ocr_tasks.swarm import collections, loading
from ocr_tasks.swarm.collections import Collection
from tests.web.conftest import configure  # noqa: F401  # a fixture

ENDINGS = ("jpg", "jpeg", "tif", "tiff", "png")


def hocr(words: str, width: int = 100, height: int = 50) -> bytes:
    """Returns hOCR of a page with one line."""
    spans = "".join(
        f'<span class="ocrx_word" title="bbox 1 1 9 9; x_wconf 90">{word}</span> '
        for word in words.split()
    )
    return (
        '<html xmlns="http://www.w3.org/1999/xhtml"><body>'
        f'<div class="ocr_page" title="bbox 0 0 {width} {height}">'
        '<div class="ocr_carea" title="bbox 1 1 9 9"><p class="ocr_par" title="bbox 1 1 9 9">'
        f'<span class="ocr_line" title="bbox 1 1 9 9">{spans}</span></p></div></div></body></html>'
    ).encode()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Returns an empty folder for images."""
    folder = tmp_path / "Old Scans"
    folder.mkdir()
    return folder


Load = Callable[..., dict[str, str]]


@pytest.fixture
def load(
    images: Path, tmp_path: Path, service: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> Load:
    """Returns a function that loads images of these names as the collection `scans`."""
    monkeypatch.setenv("OCR_SWARM_CHECK_SHARE", "0")
    settings.clear()

    def make(
        *names: str, mode: str = "L", endings: Sequence[str] = ENDINGS, **changed: object
    ) -> dict[str, str]:
        for name in names:
            path = images / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new(mode, (100, 50)).save(path)
        chosen = Collection(
            **{
                "name": "scans",
                "images": str(images),
                "transcripts": str(tmp_path / "transcripts"),
                "languages": ("eng",),
                **changed,
            }
        )
        collections.save(chosen)
        rows = loading.load(chosen, endings)
        return {str(row.path.relative_to(images)): row.result for row in rows}

    return make
