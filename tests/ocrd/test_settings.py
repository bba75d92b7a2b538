"""The settings of OCR-D."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ocr_tasks import cli, errors, settings
from ocr_tasks.ocrd import settings as ocrd_settings


@pytest.fixture(autouse=True)
def _read_again() -> Iterator[None]:
    settings.clear()
    yield
    settings.clear()


def test_folders_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OCR_OCRD_FOLDERS", f"{tmp_path}/link:real")

    assert ocrd_settings.get().ocrd_folders == (tmp_path / "real", tmp_path / "real")


@pytest.mark.parametrize("name", ["OCRD-COMMAND", "ocrd-command", "tesseract"])
def test_only_names_of_processors_are_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_PROCESSORS", name)
    with pytest.raises(errors.SettingsError, match="OCR_PROCESSORS"):
        ocrd_settings.get()


@pytest.mark.parametrize("command", ["up", "worker", "web"])
def test_no_server_starts_with_an_invalid_setting(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OCR_OCRD_TRIES", "0")
    assert cli.main([command]) == 2
    assert "OCR_OCRD_TRIES" in capsys.readouterr().err
