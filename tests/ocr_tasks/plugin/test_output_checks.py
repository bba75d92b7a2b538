"""The checks of the finished PDF find the same as OCRmyPDF's, with less work."""

from __future__ import annotations

import io
import re
import zlib
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from ocrmypdf import _stream_check
from pikepdf import Name, Stream
from PIL import Image

from ocr_tasks.plugin import output_checks
from tests.ocr_tasks.pipeline.test_document import read, scan

pytestmark = pytest.mark.usefixtures("service")


def image(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((200, 100), 50).save(buffer, kind)
    return buffer.getvalue()


def contents() -> list[tuple[bytes, list[Name]]]:
    """Returns encoded contents and their filters."""
    flate, dct, jpx = Name.FlateDecode, Name.DCTDecode, Name.JPXDecode
    jpeg, jp2, deflated = image("JPEG"), image("JPEG2000"), zlib.compress(b"content " * 1000)
    return [
        (b"plain", []),
        (deflated, [flate]),
        (deflated[:-9], [flate]),
        (b"not deflated", [flate]),
        (jpeg, [dct]),
        (jpeg[: len(jpeg) // 2], [dct]),
        (zlib.compress(jpeg), [flate, dct]),
        (zlib.compress(jpeg)[:-500], [flate, dct]),
        (zlib.compress(jpeg[:500]), [flate, dct]),
        (jp2, [jpx]),
        (jp2[: len(jp2) // 2], [jpx]),
        (b"not a JPEG 2000", [jpx]),
        (b"68656c6c6f>", [Name.ASCIIHexDecode]),
        (b"xyz>", [Name.ASCIIHexDecode]),
        (b"content", [Name.Unknown]),
    ]


@pytest.mark.parametrize("times", [1, 20])
def test_streams_are_checked_as_ocrmypdf_does(times: int, tmp_path: Path) -> None:
    path = tmp_path / "streams.pdf"
    with pikepdf.new() as pdf:
        pdf.add_blank_page()
        streams = [
            Stream(pdf, content, Filter=pikepdf.Array(filters))
            for content, filters in contents() * times
        ]
        pdf.Root.Streams = pikepdf.Array(pdf.make_indirect(stream) for stream in streams)
        pdf.save(path, compress_streams=False, stream_decode_level=pikepdf.StreamDecodeLevel.none)
    progress: tuple[list[int], list[int]] = ([], [])

    with pikepdf.open(path, conversion_mode="explicit") as pdf:
        expected = _stream_check.check_streams(pdf, progress[0].append)
        problems = output_checks.check_streams(pdf, progress[1].append)

    addresses = re.compile("0x[0-9a-f]+")  # of a Python object
    assert [addresses.sub("", text) for text in problems] == [
        addresses.sub("", text) for text in expected
    ]
    assert len(problems) >= 7 * times
    assert progress[0] == progress[1]


def test_a_fax_stream_that_is_no_image_is_not_checked() -> None:
    with pikepdf.new() as pdf:
        pdf.Root.Stream = Stream(pdf, b"content", Filter=Name.CCITTFaxDecode)
        assert output_checks.check_streams(pdf) == []


@pytest.fixture
def validations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the result of each validation of a PDF/A."""
    results: list[str] = []
    validate = pikepdf.pdfa.validate_written

    def counted(*arguments: Any, **more: Any) -> Any:
        report = validate(*arguments, **more)
        results.append(report.verdict)
        return report

    monkeypatch.setattr(pikepdf.pdfa, "validate_written", counted)
    monkeypatch.setattr(pikepdf.pdfa._api, "validate_written", counted)
    return results


def is_pdfa(path: Path) -> bool:
    with pikepdf.open(path) as pdf:
        return bool(pdf.open_metadata().pdfa_status)


def test_a_scan_is_validated_once(validations: list[str], tmp_path: Path) -> None:
    run = read(scan(tmp_path / "in.pdf", "garden"))

    assert validations == ["pass"]
    assert is_pdfa(run.artifact("pdf"))


def test_a_document_with_text_is_validated_before_its_images_are_optimized(
    validations: list[str], tmp_path: Path
) -> None:
    first = read(scan(tmp_path / "in.pdf", "garden")).artifact("pdf")
    validations.clear()

    run = read(first)

    assert validations == ["pass", "pass"]
    assert is_pdfa(run.artifact("pdf"))


def test_a_scan_that_violates_pdfa_is_converted_by_ghostscript(
    validations: list[str], tmp_path: Path
) -> None:
    path = scan(tmp_path / "in.pdf", "garden")
    with pikepdf.open(path, allow_overwriting_input=True) as pdf:
        (picture,) = pdf.pages[0].get_images().values()
        cyan = Image.open(io.BytesIO(picture.read_raw_bytes())).convert("CMYK")
        buffer = io.BytesIO()
        cyan.save(buffer, "JPEG")
        picture.write(buffer.getvalue(), filter=Name.DCTDecode)
        picture.ColorSpace = Name.DeviceCMYK
        pdf.save(path)

    run = read(path)

    assert validations[0] == "fail"
    assert is_pdfa(run.artifact("pdf"))
    assert "garden" in run.text
