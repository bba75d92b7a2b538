"""Malicious files, which are generated when they are needed; none is stored in the repository.

`tests.documents` generates files that are only invalid.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import pikepdf
from pikepdf import Array, Dictionary, Name

from tests import documents
from tests.documents import assembled

MIB = 1024 * 1024


def packed(piece: bytes, times: int) -> bytes:
    """Returns the same chunk many times, compressed (zlib)."""
    packer = zlib.compressobj(9)
    return b"".join([*(packer.compress(piece) for _ in range(times)), packer.flush()])


# Page trees


def deep_tree(depth: int) -> bytes:
    """Returns one page, below this many nodes that have one child each."""
    first = 2
    nodes = [
        b"<< /Type /Pages /Count 1 /Kids [%d 0 R] %s >>"
        % (first + level + 1, b"/Parent %d 0 R" % (first + level - 1) if level else b"")
        for level in range(depth)
    ]
    leaf = b"<< /Type /Page /Parent %d 0 R /MediaBox [0 0 72 72] >>" % (first + depth - 1)
    return assembled(b"%PDF-1.7\n", [b"<< /Type /Catalog /Pages 2 0 R >>", *nodes, leaf])


def lying_count(said: int, *texts: str) -> bytes:
    """Returns a document that declares `said` pages, and has one for each text."""
    pages = len(texts)
    with pikepdf.open(io.BytesIO(documents.scan(*texts))) as pdf:
        pdf.Root.Pages.Count = said
        # Saving repairs the page tree; the number is therefore replaced in the file.
        content = documents.saved(pdf, object_stream_mode=pikepdf.ObjectStreamMode.disable)
    truth, lie = b"/Count %d" % pages, b"/Count %d" % said
    assert content.count(truth) == 1 or truth == lie
    return content.replace(truth, lie)


# Images


def tiff_of(frames: int) -> bytes:
    """Returns a TIFF with this many frames of 8 by 8 pixels, which share their data."""
    entries = [
        (256, 3, 1, 8),  # width
        (257, 3, 1, 8),  # height
        (258, 3, 1, 1),  # bits
        (259, 3, 1, 1),  # not compressed
        (262, 3, 1, 1),  # black is 0
        (273, 4, 1, 8),  # the offset of the pixels
        (278, 3, 1, 8),
        (279, 4, 1, 8),
    ]
    size = 2 + 12 * len(entries) + 4
    head = b"II*\0" + struct.pack("<I", 16) + b"\xff" * 8
    folder = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
    following = (16 + size * (n + 1) if n + 1 < frames else 0 for n in range(frames))
    return head + b"".join(folder + struct.pack("<I", offset) for offset in following)


def huge_tiff(width: int, height: int) -> bytes:
    """Returns a TIFF whose header declares this size in pixels."""
    content = bytearray(tiff_of(1))
    for index, value in enumerate((width, height)):
        struct.pack_into("<HHII", content, 18 + 12 * index, 256 + index, 4, 1, value)
    return bytes(content)


def gif_of(frames: int) -> bytes:
    """Returns a GIF with this many frames of 8 by 8 pixels."""
    one = documents.encoded(documents.picture("x", "P", (8, 8)), "GIF")
    start = one.index(b",")
    return one[:start] + one[start:-1] * frames + b";"


def huge_jpeg(width: int, height: int) -> bytes:
    """Returns a JPEG whose header declares this size in pixels."""
    content = bytearray(documents.encoded(documents.picture("x", "L", (64, 64)), "JPEG"))
    start = content.index(b"\xff\xc0")
    struct.pack_into(">HH", content, start + 5, height, width)
    return bytes(content)


def png_with(data: bytes, width: int, height: int) -> bytes:
    """Returns a gray PNG of that size around compressed data, which may be anything."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


# Content of pages


def page_of(
    content: bytes, packed_content: bool = False, box: Sequence[float] = documents.LETTER
) -> pikepdf.Pdf:
    """Returns a page with this content, which may already be compressed."""
    pdf = documents.blank_pdf(box=box)
    stream = pdf.make_stream(content)
    if packed_content:
        stream.write(content, filter=Name.FlateDecode)
    pdf.pages[0].Contents = stream
    return pdf


def image(pdf: pikepdf.Pdf, data: bytes, width: int, height: int, bits: int = 8) -> pikepdf.Object:
    """Returns a gray image in a PDF; its data are already compressed."""
    stream = pdf.make_stream(b"")
    stream.write(data, filter=Name.FlateDecode)
    stream.update(
        Dictionary(
            Type=Name.XObject,
            Subtype=Name.Image,
            Width=width,
            Height=height,
            ColorSpace=Name.DeviceGray,
            BitsPerComponent=bits,
        )
    )
    return stream


def form(pdf: pikepdf.Pdf, content: bytes, **xobjects: pikepdf.Object) -> pikepdf.Object:
    """Returns a form XObject that draws others."""
    stream = pdf.make_stream(content)
    stream.update(
        Dictionary(
            Type=Name.XObject,
            Subtype=Name.Form,
            BBox=Array([0, 0, 612, 792]),
            Resources=Dictionary(XObject=Dictionary(**xobjects)),
        )
    )
    return stream


def huge_image_in_form(width: int, height: int) -> bytes:
    """Returns a page with a huge image in a form."""
    pdf = page_of(b"/Fm0 Do")
    inner = image(pdf, packed(b"\0" * 100, 1), width, height)
    outer = form(pdf, b"612 0 0 792 0 0 cm /Im0 Do", Im0=inner)
    pdf.pages[0].Resources = Dictionary(XObject=Dictionary(Fm0=outer))
    return documents.saved(pdf)


def huge_inline_image(width: int, height: int) -> bytes:
    """Returns a page with a huge image in its content."""
    head = b"BI /W %d /H %d /CS /G /BPC 8 ID " % (width, height)
    return documents.saved(page_of(b"612 0 0 792 0 0 cm " + head + b"\0" * 100 + b" EI"))


def dense_image(pixels: int, points: float, box: Sequence[float]) -> bytes:
    """Returns a square image with this many pixels per side on a page of this many points."""
    pdf = page_of(b"%f 0 0 %f 0 0 cm /Im0 Do" % (points, points), box=box)
    picture = image(pdf, packed(b"\xff" * pixels, pixels), pixels, pixels)
    pdf.pages[0].Resources = Dictionary(XObject=Dictionary(Im0=picture))
    return documents.saved(pdf)


def shared_image(pages: int, side: int) -> bytes:
    """Returns many pages that all show the same image, in a small file."""
    pdf = documents.blank_pdf(pages)
    picture = image(pdf, packed(b"\xff" * side, side), side, side)
    content = pdf.make_stream(b"612 0 0 792 0 0 cm /Im0 Do")
    for page in pdf.pages:
        page.Resources = Dictionary(XObject=Dictionary(Im0=picture))
        page.Contents = content
    return documents.saved(pdf)


def laughing_forms(levels: int, times: int) -> bytes:
    """Returns forms that draw a form many times, which draws a form many times…"""
    pdf = page_of(b"/Fm Do")
    drawn = form(pdf, b"0 0 600 700 re f")
    for _ in range(levels):
        drawn = form(pdf, b"/Fm Do " * times, Fm=drawn)
    pdf.pages[0].Resources = Dictionary(XObject=Dictionary(Fm=drawn))
    return documents.saved(pdf)


def form_in_itself() -> bytes:
    """Returns a form that draws itself."""
    pdf = page_of(b"/Fm Do")
    loop = form(pdf, b"/Fm Do")
    loop.Resources.XObject.Fm = loop
    pdf.pages[0].Resources = Dictionary(XObject=Dictionary(Fm=loop))
    return documents.saved(pdf)


def many_fills(count: int) -> bytes:
    """Returns a page that is filled many times."""
    content = packed(b"0 0 600 700 re f\n" * 1000, count // 1000)
    return documents.saved(page_of(content, packed_content=True))


def long_content(size: int) -> bytes:
    """Returns a page whose content is a comment of this many bytes, in a small file."""
    content = packed(b"%" + b" " * (MIB - 2) + b"\n", size // MIB)
    return documents.saved(page_of(content, packed_content=True))


def bomb_in_image(size: int) -> bytes:
    """Returns a small image whose data expand to this many bytes."""
    pdf = page_of(b"612 0 0 792 0 0 cm /Im0 Do")
    picture = image(pdf, packed(b"\xff" * MIB, size // MIB), 1000, 1000)
    pdf.pages[0].Resources = Dictionary(XObject=Dictionary(Im0=picture))
    return documents.saved(pdf)


# Active content


def active(canary: str, port: int) -> bytes:
    """Returns a scan that tries to run programs and scripts, open a URL, and read another file."""
    address = f"http://127.0.0.1:{port}/canary"
    with pikepdf.open(io.BytesIO(documents.scan("active document"))) as pdf:
        script = Dictionary(S=Name.JavaScript, JS=f"app.launchURL('{address}', true)")
        launch = Dictionary(S=Name.Launch, F="/usr/bin/touch", P=canary + ".touched")
        link = Dictionary(S=Name.URI, URI=address)
        submit = Dictionary(S=Name.SubmitForm, F=Dictionary(FS=Name.URL, F=address))
        pdf.Root.OpenAction = script
        pdf.Root.OpenAction.Next = Array([launch, link, submit])
        pdf.Root.AA = Dictionary(WC=launch)
        pdf.Root.Names = Dictionary(
            JavaScript=Dictionary(Names=Array([pikepdf.String("a"), script]))
        )
        page = pdf.pages[0]
        page.obj.AA = Dictionary(O=launch)
        page.obj.Annots = Array(
            [
                Dictionary(
                    Type=Name.Annot, Subtype=Name.Link, Rect=Array([0, 0, 600, 700]), A=action
                )
                for action in (launch, link, submit)
            ]
        )
        # Data in another file (PDF 32000-1, 7.3.8.2, table 5).
        outside = pdf.make_stream(b"")
        outside.F = canary
        page.obj.Contents = Array([page.obj.Contents, outside])
        return documents.saved(pdf)


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


def metadata(canary: str, port: int) -> bytes:
    """Returns a scan whose XMP contains entities: of a file, of a URL, and a billion laughs."""
    entities = (
        f'<!ENTITY file SYSTEM "file://{canary}">'
        f'<!ENTITY % address SYSTEM "http://127.0.0.1:{port}/canary"> %address;'
        f'<!ENTITY l0 "ha">{LAUGHS}'
    )
    packet = (
        f'<?xml version="1.0"?><!DOCTYPE x [{entities}]>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        '<dc:title><rdf:Alt><rdf:li xml:lang="x-default">&file;&l9;</rdf:li></rdf:Alt></dc:title>'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    with pikepdf.open(io.BytesIO(documents.scan("metadata"))) as pdf:
        stream = pdf.make_stream(packet.encode())
        stream.update(Dictionary(Type=Name.Metadata, Subtype=Name.XML))
        pdf.Root.Metadata = stream
        return documents.saved(pdf)


def tagged() -> bytes:
    """Returns a page of text that is tagged as accessible."""
    pdf = with_text("tagged")
    pdf.Root.MarkInfo = Dictionary(Marked=True)
    return documents.saved(pdf)


def with_text(text: str) -> pikepdf.Pdf:
    """Returns a page of real text."""
    pdf = page_of(b"BT /F1 24 Tf 72 700 Td (%s) Tj ET" % text.encode())
    font = Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica)
    pdf.pages[0].Resources = Dictionary(Font=Dictionary(F1=font))
    return pdf


# A SHA-1 collision: these 320 bytes, which differ in 62 of the last 128, have the same hash state
# (Stevens, Bursztein, Karpman, Albertini, Markov: The first collision for full SHA-1, 2017).
_TWINS_HEAD = (
    "255044462d312e330a25e2e3cfd30a0a0a312030206f626a0a3c3c2f57696474682032203020522f486569676874"
    "2033203020522f547970652034203020522f537562747970652035203020522f46696c7465722036203020522f43"
    "6f6c6f7253706163652037203020522f4c656e6774682038203020522f42697473506572436f6d706f6e656e7420"
    "383e3e0a73747265616d0affd8fffe00245348412d3120697320646561642121212121852fec092339759c39b1a1"
    "c63c4c97e1fffe01"
)
_TWINS = (
    "7f46dc93a6b67e013b029aaa1db2560b45ca67d688c7f84b8c4c791fe02b3df614f86db1690901c56b45c1530afe"
    "dfb76038e972722fe7ad728f0e4904e046c230570fe9d41398abe12ef5bc942be33542a4802d98b5d70f2a332ec3"
    "7fac3514e74ddc0f2cc1a874cd0c78305a21566461309789606bd0bf3f98cda8044629a1",
    "7346dc9166b67e118f029ab621b2560ff9ca67cca8c7f85ba84c79030c2b3de218f86db3a90901d5df45c14f26fe"
    "dfb3dc38e96ac22fe7bd728f0e45bce046d23c570feb141398bb552ef5a0a82be331fea48037b8b5d71f0e332edf"
    "93ac3500eb4ddc0decc1a864790c782c76215660dd309791d06bd0af3f98cda4bc4629b1",
)


def twins() -> tuple[bytes, bytes]:
    """Returns two PDFs of a blank page with the same SHA-1."""
    rest = (
        b"\nendstream\nendobj\n"
        b"9 0 obj\n<< /Type /Catalog /Pages 10 0 R >>\nendobj\n"
        b"10 0 obj\n<< /Type /Pages /Count 1 /Kids [11 0 R] >>\nendobj\n"
        b"11 0 obj\n<< /Type /Page /Parent 10 0 R /MediaBox [0 0 72 72] >>\nendobj\n"
        b"trailer << /Size 12 /Root 9 0 R >>\n%%EOF\n"
    )
    one, other = (bytes.fromhex(_TWINS_HEAD + twin) + rest for twin in _TWINS)
    return one, other


def slow_to_draw() -> bytes:
    """Returns three pages; the second has a shading whose function takes PDFium hours."""
    with pikepdf.open(io.BytesIO(documents.scan("garden", "window", "harbour"))) as pdf:
        function = pdf.make_stream(
            b"{" + b" dup mul" * 20_000 + b" }",
            FunctionType=4,
            Domain=Array([0, 1, 0, 1]),
            Range=Array([0, 1]),
        )
        shading = Dictionary(
            ShadingType=1,
            ColorSpace=Name.DeviceGray,
            Domain=Array([0, 1, 0, 1]),
            Matrix=Array([612, 0, 0, 792, 0, 0]),
            Function=pdf.make_indirect(function),
        )
        pdf.pages[1].Resources.Shading = Dictionary(S=shading)
        pdf.pages[1].contents_add(pdf.make_stream(b"/S sh"))
        return documents.saved(pdf)
