"""Real processors of OCR-D, some invented ones, and a small real workspace."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from ocr_tasks import settings
from ocr_tasks.ocrd import warm_pool
from tests.conftest import DATA
from tests.ocr_tasks.formats.conftest import (  # noqa: F401  # fixtures
    hostile,
    hostile_words,
    scanned,
    tesseract_hocr,
)
from tests.ocrd.behind import Behind
from tests.web.api.test_health import just_started, long_after_start  # noqa: F401  # fixtures
from tests.web.conftest import configure  # noqa: F401  # a fixture

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def ocrd_bin() -> Path:
    """Returns the folder of `ocrd`, `ocrd-dummy` and `ocrd-tesserocr-recognize`."""
    found = [
        ROOT / ".venv-ocrd" / "bin",
        *map(Path, os.environ.get("OCR_OCRD_PATH", "").split(":")),
    ]
    for folder in found:
        if (folder / "ocrd-dummy").exists():
            return folder
    raise AssertionError("no processors are installed; scripts/setup --ocrd installs some")


@pytest.fixture(scope="session")
def shared_bin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder for processors that stay loaded from test to test."""
    return tmp_path_factory.mktemp("bin")


@pytest.fixture
def own_bin(tmp_path: Path) -> Path:
    """Returns a folder for processors that a test creates."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


@pytest.fixture
def processors(
    service: redis.Redis,
    ocrd_bin: Path,
    own_bin: Path,
    shared_bin: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[redis.Redis]:
    """Uses an empty Redis, and these processors."""
    models = sorted(Path("/usr/share/tesseract-ocr").glob("*/tessdata"))
    monkeypatch.setenv("TESSDATA_PREFIX", str(models[-1]))
    monkeypatch.setenv("OCR_OCRD_PATH", f"{own_bin}:{shared_bin}:{ocrd_bin}")
    settings.clear()
    yield service
    settings.clear()


@pytest.fixture(scope="session", autouse=True)
def none_stays() -> Iterator[None]:
    """Keeps processors loaded from test to test, and ends them after the last one."""
    yield
    warm_pool.close_all()


@pytest.fixture
def program(own_bin: Path) -> Callable[[str, str], Path]:
    """Returns a function that creates a processor from its name and its source code."""

    def make(name: str, text: str) -> Path:
        path = own_bin / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def kant(tmp_path: Path) -> Path:
    """Returns the METS file of a workspace of two pages, PHYS_0017 and PHYS_0020."""
    shutil.copytree(DATA / "kant", tmp_path / "kant")
    return tmp_path / "kant" / "mets.xml"


@pytest.fixture
def behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Behind:
    """Replaces the workers behind the API."""
    made = Behind(tmp_path)
    made.install(monkeypatch)
    return made
