"""Creates valid, invalid and unusual documents."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import pikepdf
from pikepdf import Array, Dictionary, Name
from PIL import Image, ImageDraw, ImageFont

LETTER = (0, 0, 612, 792)


def picture(text: str, mode: str = "L", size: tuple[int, int] = (1240, 500)) -> Image.Image:
    """Returns an image with a line of large text on white."""
    image = Image.new("L", size, "white")
    ImageDraw.Draw(image).text((100, 150), text, fill=0, font=ImageFont.load_default(80))
    return image.convert(mode)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """Returns an image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def scan(*texts: str, **info: str) -> bytes:
    """Returns a PDF with an image of each text on its own page; `info` contains e.g. its title."""
    first, *rest = [picture(text, "RGB") for text in texts]
    return encoded(first, "PDF", save_all=True, append_images=rest, resolution=150, **info)


def saved(pdf: pikepdf.Pdf, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pdf.save(buffer, **options)
    return buffer.getvalue()


def blank_pdf(pages: int = 1, box: Sequence[float] = LETTER, **page: Any) -> pikepdf.Pdf:
    """Returns blank pages; `page` contains additional entries of each page's dictionary."""
    pdf = pikepdf.new()
    for _ in range(pages):
        leaf = Dictionary(Type=Name.Page, MediaBox=Array(list(box)), **page)
        pdf.pages.append(pikepdf.Page(pdf.make_indirect(leaf)))
    return pdf


def no_pages() -> bytes:
    """Returns a PDF that is valid but has no pages."""
    pdf = pikepdf.new()
    return saved(pdf)


def many_pages(count: int) -> bytes:
    """Returns thousands of pages in a small file: the page tree repeats the same page."""
    head = b"%PDF-1.7\n"
    kids = b"3 0 R " * count
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count %d /Kids [%s] >>" % (count, kids),
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 72 72] >>",
    ]
    return assembled(head, objects)


def looping_tree() -> bytes:
    """Returns a page tree that contains itself."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1 /Kids [2 0 R] >>",
    ]
    return assembled(b"%PDF-1.7\n", objects)


def nested_arrays(depth: int) -> bytes:
    """Returns a page whose box is an array in an array in an array…"""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox %s%s >>" % (b"[" * depth, b"]" * depth),
    ]
    return assembled(b"%PDF-1.7\n", objects)


def assembled(head: bytes, objects: Sequence[bytes]) -> bytes:
    """Returns a PDF file with these objects and a correct cross-reference table."""
    body, offsets = head, []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    table += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer << /Size %d /Root 1 0 R >>\n" % (len(objects) + 1)
    return body + table + trailer + b"startxref\n%d\n%%%%EOF\n" % len(body)


def encrypted(user: str) -> bytes:
    """Returns a scan that requires a password, or only has restrictions if it is empty."""
    with pikepdf.open(io.BytesIO(scan("secret"))) as pdf:
        return saved(pdf, encryption=pikepdf.Encryption(user=user, owner="owner"))


def signed() -> bytes:
    """Returns a scan with a form that declares a signature."""
    with pikepdf.open(io.BytesIO(scan("signature"))) as pdf:
        value = Dictionary(Type=Name.Sig, Filter=Name("/Adobe.PPKLite"), Contents=b"0" * 16)
        field = Dictionary(FT=Name.Sig, T="Signature1", V=pdf.make_indirect(value))
        fields = Array([pdf.make_indirect(field)])
        pdf.Root.AcroForm = Dictionary(SigFlags=3, Fields=fields)
        return saved(pdf)


def dynamic_form() -> bytes:
    """Returns a PDF that only Adobe's programs can display."""
    pdf = blank_pdf()
    pdf.Root.NeedsRendering = True
    return saved(pdf)


def huge_image_in_pdf(width: int, height: int) -> bytes:
    """Returns a page with an image that declares a huge size and has a few bytes."""
    pdf = blank_pdf()
    image = pdf.make_stream(b"\0" * 100)
    image.update(
        Dictionary(
            Type=Name.XObject,
            Subtype=Name.Image,
            Width=width,
            Height=height,
            ColorSpace=Name.DeviceGray,
            BitsPerComponent=8,
        )
    )
    pdf.pages[0].Resources = Dictionary(XObject=Dictionary(Im0=image))
    pdf.pages[0].Contents = pdf.make_stream(b"612 0 0 792 0 0 cm /Im0 Do")
    return saved(pdf)


def huge_png(width: int, height: int) -> bytes:
    """Returns a PNG whose header declares this size in pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
