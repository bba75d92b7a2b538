"""Several files become one PDF, with what each of them has besides its pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pikepdf
import pytest
from pikepdf import Array, Dictionary, Name, NameTree, NumberTree, OutlineItem, String

from ocr_tasks.uploads import merging
from ocr_tasks.uploads.merging import Part
from tests import documents


@contextmanager
def changing(path: Path, pages: int = 2) -> Iterator[pikepdf.Pdf]:
    """Writes a PDF of blank pages that the block has changed."""
    with documents.blank_pdf(pages) as pdf:
        yield pdf
        pdf.save(path)


def rich(path: Path, name: str) -> Path:
    """Writes two pages with everything; `name` is part of its texts, but not of its names."""
    with changing(path) as pdf:
        second = Array([pdf.pages[1].obj, Name.Fit])
        with pdf.open_outline() as outline:
            chapter = OutlineItem(f"chapter of {name}", 0)
            chapter.children.append(OutlineItem(f"section of {name}", "there"))
            outline.root.append(chapter)
        destinations, old_destinations = NameTree.new(pdf), Dictionary(There=second)
        destinations["there"] = second
        pdf.Root.Names, pdf.Root.Dests = Dictionary(Dests=destinations.obj), old_destinations
        pdf.attachments["a.xml"] = name.encode()
        pdf.Root.AF = Array([pdf.attachments["a.xml"].obj])
        labels = NumberTree.new(pdf)
        labels[0] = Dictionary(S=Name.r)
        pdf.Root.PageLabels = labels.obj
        pdf.pages[0].Annots = Array([link(pdf, String("there")), link(pdf, Name.There)])
        fill_in(pdf, name)
        hide_layer(pdf)
        pdf.docinfo["/Title"], pdf.Root.Lang = "The title", String("de")
        pdf.docinfo["/Author"] = "The author"
    return path


def link(pdf: pikepdf.Pdf, destination: String | Name) -> pikepdf.Object:
    box = Array([9, 9, 90, 30])
    return pdf.make_indirect(
        Dictionary(Type=Name.Annot, Subtype=Name.Link, Rect=box, Dest=destination)
    )


def fill_in(pdf: pikepdf.Pdf, value: str) -> None:
    """Adds a form field that is shown on all pages."""
    field = pdf.make_indirect(Dictionary(FT=Name.Tx, T="field", V=value, Kids=Array()))
    for page in pdf.pages:
        widget = Dictionary(Subtype=Name.Widget, Rect=Array([10, 90, 90, 99]), Parent=field)
        field.Kids.append(pdf.make_indirect(widget))
        page.Annots = Array([*page.obj.get("/Annots", []), field.Kids[-1]])
    font = pdf.make_indirect(Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Courier))
    pdf.Root.AcroForm = Dictionary(
        Fields=Array([field]), DA="/F 9 Tf", Q=2, DR=Dictionary(Font=Dictionary(F=font))
    )


def hide_layer(pdf: pikepdf.Pdf) -> None:
    shown, hidden = (
        pdf.make_indirect(Dictionary(Type=Name.OCG, Name=name)) for name in ("shown", "hidden")
    )
    pdf.pages[0].Resources = Dictionary(Properties=Dictionary(A=shown, B=hidden))
    settings = Dictionary(BaseState=Name.OFF, ON=Array([shown]), Order=Array([shown, hidden]))
    pdf.Root.OCProperties = Dictionary(OCGs=Array([shown, hidden]), D=settings)


@contextmanager
def merged(*files: Path, images: int = 0) -> Iterator[tuple[pikepdf.Pdf, list[str]]]:
    """Merges files, of which the first ones are images; opens the result."""
    target = files[0].with_name("merged.pdf")
    parts = [Part(path, number, number <= images) for number, path in enumerate(files, start=1)]
    warnings = merging.merge(parts, target)
    with pikepdf.open(target) as pdf:
        assert pdf.check_pdf_syntax() == []
        yield pdf, warnings


def index_of(pdf: pikepdf.Pdf, destination: pikepdf.Object) -> int:
    """Returns the index of the page that an explicit or named destination is about."""
    if isinstance(destination, String):
        destination = NameTree(pdf.Root.Names.Dests)[str(destination)]
    elif isinstance(destination, Name):
        destination = pdf.Root.Dests[str(destination)]
    return pikepdf.Page(destination[0]).index


def check_both(pdf: pikepdf.Pdf) -> None:
    """Checks that a merged document has everything of two rich files, `one` and `two`."""
    assert len(pdf.pages) == 4
    with pdf.open_outline() as outline:
        chapters = [*outline.root]
    assert [row.title for row in chapters] == ["chapter of one", "chapter of two"]
    assert [index_of(pdf, row.destination) for row in chapters] == [0, 2]
    sections = [row.children[0] for row in chapters]
    assert [row.title for row in sections] == ["section of one", "section of two"]
    assert [index_of(pdf, row.destination) for row in sections] == [1, 3]
    links = [row.Dest for n in (0, 2) for row in pdf.pages[n].Annots if "/Dest" in row]
    assert [index_of(pdf, row) for row in links] == [1, 1, 3, 3]
    files_of = {str(row.filename): row for row in pdf.attachments.values()}
    contents = [row.get_file().read_bytes() for row in pdf.attachments.values()]
    assert (list(files_of), sorted(contents)) == (["a.xml"], [b"one", b"two"])
    assert len(pdf.Root.AF) == 2
    assert [page.label for page in pdf.pages] == ["i", "ii", "i", "ii"]
    fields = [*pdf.Root.AcroForm.Fields]
    assert [(str(row.T), str(row.V)) for row in fields] == [
        ("field", "one"),
        ("field-2", "two"),
    ]
    for field, pages in zip(fields, ([0, 1], [2, 3]), strict=True):
        shown = [pdf.pages[n].Annots[-1].objgen for n in pages]
        assert [kid.objgen for kid in field.Kids] == shown
    assert "/F" in pdf.Root.AcroForm.DR.Font
    assert [str(fields[1][key]) for key in ("/DA", "/Q")] == ["/F 9 Tf", "2"]
    layers = pdf.Root.OCProperties
    assert [str(row.Name) for row in layers.OCGs] == ["shown", "hidden"] * 2
    assert layers.OCGs[2].objgen == pdf.pages[2].Resources.Properties.A.objgen
    assert [row.objgen for row in layers.D.ON] == [layers.OCGs[n].objgen for n in (0, 2)]
    assert layers.OCGs[3].objgen in [row.objgen for row in layers.D.OFF]
    assert (str(pdf.docinfo.Title), str(pdf.Root.Lang)) == ("The title", "de")


def test_everything_of_two_files_is_kept_although_their_names_are_the_same(tmp_path: Path) -> None:
    files = rich(tmp_path / "1.pdf", "one"), rich(tmp_path / "2.pdf", "two")

    with merged(*files) as (pdf, warnings):
        assert warnings == []
        check_both(pdf)


def test_a_file_without_anything_gets_what_the_next_one_has(tmp_path: Path) -> None:
    with changing(tmp_path / "1.pdf", pages=1):
        pass

    with merged(tmp_path / "1.pdf", rich(tmp_path / "2.pdf", "two")) as (pdf, warnings):
        assert warnings == []
        assert [page.label for page in pdf.pages] == ["1", "i", "ii"]
        with pdf.open_outline() as outline:
            assert [index_of(pdf, row.destination) for row in outline.root] == [1]
        assert [index_of(pdf, row.Dest) for row in pdf.pages[1].Annots if "/Dest" in row] == [2, 2]
        assert list(pdf.attachments) == ["a.xml"]
        assert [str(row.V) for row in pdf.Root.AcroForm.Fields] == ["two"]
        assert (str(pdf.docinfo.Title), str(pdf.Root.Lang)) == ("The title", "de")
        layers = pdf.Root.OCProperties
        assert [row.objgen for row in layers.D.OFF] == [layers.OCGs[1].objgen]


def test_fields_do_not_get_the_alignment_of_the_first_file(tmp_path: Path) -> None:
    second = rich(tmp_path / "2.pdf", "two")
    with pikepdf.open(second, allow_overwriting_input=True) as pdf:
        del pdf.Root.AcroForm.Q
        pdf.save()

    with merged(rich(tmp_path / "1.pdf", "one"), second) as (pdf, _):
        assert pdf.Root.AcroForm.Q == 2
        assert pdf.Root.AcroForm.Fields[1].Q == 0


def test_a_file_after_an_image_keeps_everything(tmp_path: Path) -> None:
    with changing(tmp_path / "1.pdf", pages=1) as image:
        image.pages[0].MediaBox = Array([0, 0, 50, 50])
    second = rich(tmp_path / "2.pdf", "two")
    with pikepdf.open(second, allow_overwriting_input=True) as pdf:
        pdf.Root.StructTreeRoot = Dictionary(Type=Name.StructTreeRoot)
        pdf.save()

    with merged(tmp_path / "1.pdf", second, images=1) as (pdf, warnings):
        assert warnings == []
        assert [float(page.mediabox[2]) for page in pdf.pages] == [50, 612, 612]
        assert [page.label for page in pdf.pages] == ["1", "i", "ii"]
        assert "/StructTreeRoot" in pdf.Root
        with pdf.open_outline() as outline:
            assert [index_of(pdf, row.destination) for row in outline.root] == [1]


def tagged(path: Path) -> Path:
    """Writes a page that is tagged, with an annotation and form XObjects that are."""
    with changing(path, pages=1) as pdf:
        page = pdf.pages[0]
        inner = pdf.make_stream(b"", Subtype=Name.Form, StructParent=3)
        inside = Dictionary(XObject=Dictionary(B=inner))
        outer = pdf.make_stream(b"", Subtype=Name.Form, StructParents=2, Resources=inside)
        page.StructParents, page.Resources = 4, Dictionary(XObject=Dictionary(A=outer))
        page.Annots = Array([link(pdf, Name.There)])
        page.Annots[0].StructParent = 1
        pdf.Root.StructTreeRoot = pdf.make_indirect(Dictionary(Type=Name.StructTreeRoot))
    return path


def tags_of(pdf: pikepdf.Pdf, index: int) -> list[object]:
    """Returns the keys in the structure tree of a tagged page and of what is on it."""
    page = pdf.pages[index].obj
    outer = page.Resources.XObject.A
    inner = outer.Resources.XObject.B
    parts = [page, outer, page.Annots[0], inner]
    return [row.get("/StructParents") or row.get("/StructParent") for row in parts]


def test_pages_of_other_files_do_not_get_the_tags_of_the_first_one(tmp_path: Path) -> None:
    files = tagged(tmp_path / "1.pdf"), tagged(tmp_path / "2.pdf")

    with merged(*files) as (pdf, warnings):
        assert warnings == ["Merging the files has lost tags of file 2."]
        assert tags_of(pdf, 0) == [4, 2, 1, 3]
        assert tags_of(pdf, 1) == [None] * 4


def test_empty_metadata_is_replaced_by_that_of_the_next_file(tmp_path: Path) -> None:
    with changing(tmp_path / "1.pdf") as pdf:
        pdf.docinfo["/Title"], pdf.docinfo["/Author"], pdf.Root.Lang = " ", "The author", String("")
    second = rich(tmp_path / "2.pdf", "two")
    with changing(tmp_path / "3.pdf") as pdf:
        pdf.docinfo["/Title"], pdf.docinfo["/Author"], pdf.Root.Lang = "", "", String("")

    with merged(tmp_path / "1.pdf", second, tmp_path / "3.pdf") as (pdf, warnings):
        assert warnings == []
        assert (str(pdf.docinfo.Title), str(pdf.docinfo.Author)) == ("The title", "The author")
        assert str(pdf.Root.Lang) == "de"


@pytest.mark.parametrize(
    ("missing", "titles"),
    [("/First", ["chapter of two"]), ("/Last", ["chapter of one", "chapter of two"])],
)
def test_an_outline_without_its_first_or_last_bookmark_is_extended(
    missing: str, titles: list[str], tmp_path: Path
) -> None:
    first = rich(tmp_path / "1.pdf", "one")
    with pikepdf.open(first, allow_overwriting_input=True) as pdf:
        del pdf.Root.Outlines[missing]
        pdf.save()

    with (
        merged(first, rich(tmp_path / "2.pdf", "two")) as (pdf, warnings),
        pdf.open_outline() as outline,
    ):
        assert warnings == []
        assert [row.title for row in outline.root] == titles


def test_an_endless_outline_without_a_last_bookmark_keeps_its_bookmarks(tmp_path: Path) -> None:
    first = rich(tmp_path / "1.pdf", "one")
    with pikepdf.open(first, allow_overwriting_input=True) as pdf:
        del pdf.Root.Outlines.Last
        pdf.Root.Outlines.First.Next = pdf.Root.Outlines.First
        pdf.save()

    with (
        merged(first, rich(tmp_path / "2.pdf", "two")) as (pdf, _),
        pdf.open_outline() as outline,
    ):
        assert [row.title for row in outline.root] == ["chapter of one", "chapter of two"]


def named(path: Path, *names: bytes) -> Path:
    """Writes a page with destinations of these names in this order, and links to each of them."""
    with changing(path, pages=1) as pdf:
        target = pdf.make_indirect(Array([pdf.pages[0].obj, Name.Fit]))
        rows = [part for name in names for part in (String(name), target)]
        pdf.Root.Names = Dictionary(Dests=Dictionary(Names=Array(rows)))
        pdf.pages[0].Annots = Array([link(pdf, String(name)) for name in names])
    return path


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([b"a"], [b"a", b"a-2"], [b"a-2-2", b"a-2"]),
        ([b"a", b"a-2"], [b"a"], [b"a-2-2"]),
        ([b"a"], [b"\xfe\xff\0b"], [b"\xfe\xff\0b"]),  # viewers compare the bytes
        ([b"b"], [b"\xfe\xff\0b"], [b"b-2"]),
        ([b"a"], [b"\x7f", b"\x9f"], [b"\x7f", b"\x9f"]),  # not defined in PDFDocEncoding
        ([b"\xef\xbb\xbf\xff"], [b"z", b"\xe4", b"\xa0"], [b"z", b"\xe4", b"\xa0"]),
    ],
)
def test_links_find_their_destinations_by_the_bytes_of_their_names(
    first: list[bytes], second: list[bytes], expected: list[bytes], tmp_path: Path
) -> None:
    files = named(tmp_path / "1.pdf", *first), named(tmp_path / "2.pdf", *second)

    with merged(*files) as (pdf, warnings):
        assert warnings == []
        links = [[bytes(row.Dest) for row in page.Annots] for page in pdf.pages]
        assert links == [first, expected]
        rows = [*pdf.Root.Names.Dests.Names]
        names = [bytes(row) for row in rows[::2]]
        assert names == sorted(first + expected)
        pages = {
            name: pikepdf.Page(row[0]).index for name, row in zip(names, rows[1::2], strict=True)
        }
        assert pages == {**dict.fromkeys(first, 0), **dict.fromkeys(expected, 1)}


def test_names_that_another_file_has_with_a_number_are_kept(tmp_path: Path) -> None:
    for number, names in ((1, ["a"]), (2, ["a", "a-2"])):
        with changing(tmp_path / f"{number}.pdf") as pdf:
            fields = [pdf.make_indirect(Dictionary(FT=Name.Tx, T=name)) for name in names]
            pdf.Root.AcroForm = Dictionary(Fields=Array([*fields, fields[0]]))
            pdf.Root.Dests = Dictionary({f"/{name}": pdf.pages[0].obj for name in names})
            for name in names:
                pdf.attachments[name] = b"data"

    with merged(tmp_path / "1.pdf", tmp_path / "2.pdf") as (pdf, warnings):
        assert warnings == []
        expected = ["a", "a-2", "a-2-2"]
        assert sorted(pdf.attachments) == expected
        assert sorted(pdf.Root.Dests.keys()) == [f"/{name}" for name in expected]
        assert sorted({str(row.T) for row in pdf.Root.AcroForm.Fields}) == expected


def shared_nodes(pdf: pikepdf.Pdf, leaf: str) -> pikepdf.Object:
    """Returns a tree with 2^60 paths to its leaf, and a cycle."""
    root = node = pdf.make_indirect(Dictionary({leaf: Array()}))
    for _ in range(60):
        node = pdf.make_indirect(Dictionary(Kids=Array([node, node])))
    root.Kids = Array([node])
    return node


def shared_array(pdf: pikepdf.Pdf, leaf: str) -> pikepdf.Object:
    """Returns a tree of 1,000 nodes that share an array of 1,000 entries."""
    rows = pdf.make_indirect(Array([0] * 1000))
    kids = [pdf.make_indirect(Dictionary({leaf: rows})) for _ in range(1000)]
    return pdf.make_indirect(Dictionary(Kids=Array(kids)))


@pytest.mark.parametrize("tree", [shared_nodes, shared_array])
@pytest.mark.parametrize("is_first", [True, False])
def test_trees_that_share_their_parts_end(
    tree: Callable[[pikepdf.Pdf, str], pikepdf.Object], is_first: bool, tmp_path: Path
) -> None:
    with changing(tmp_path / "1.pdf") as pdf:
        names = tree(pdf, "/Names")
        pdf.Root.Names = Dictionary(Dests=names, EmbeddedFiles=names)
        pdf.Root.PageLabels = tree(pdf, "/Nums")
    files = [tmp_path / "1.pdf", rich(tmp_path / "2.pdf", "two")]

    with merged(*(files if is_first else files[::-1])) as (pdf, warnings):
        assert len(pdf.pages) == 4
        assert ("has lost named destinations" in " ".join(warnings)) is (tree is shared_array)


def test_a_portfolio_shows_its_pages(tmp_path: Path) -> None:
    with changing(tmp_path / "1.pdf") as pdf:
        pdf.attachments["a.txt"] = b"a"
        pdf.Root.Collection = Dictionary(View=Name.D)

    with merged(tmp_path / "1.pdf", tmp_path / "1.pdf") as (pdf, warnings):
        assert warnings == []
        assert "/Collection" not in pdf.Root
        assert list(pdf.attachments) == ["a.txt", "a.txt-2"]


def test_a_merged_document_does_not_claim_to_be_a_pdfa(tmp_path: Path) -> None:
    with changing(tmp_path / "1.pdf") as pdf, pdf.open_metadata() as metadata:
        metadata["pdfaid:part"], metadata["dc:title"] = "2", "kept"

    with merged(tmp_path / "1.pdf", tmp_path / "1.pdf") as (pdf, _):
        metadata = pdf.open_metadata()
        assert (metadata.pdfa_status, metadata["dc:title"]) == ("", "kept")


def test_what_cannot_be_merged_is_named(tmp_path: Path) -> None:
    with pikepdf.open(rich(tmp_path / "rich.pdf", "one")) as pdf:
        pdf.docinfo["/Subject"], pdf.docinfo["/Keywords"] = "The subject", "some"
        pdf.save(first := tmp_path / "1.pdf")
    with changing(tmp_path / "2.pdf") as pdf:
        pdf.Root.StructTreeRoot = Dictionary(Type=Name.StructTreeRoot)
        scripts = NameTree.new(pdf)
        scripts["a"] = Dictionary(S=Name.JavaScript, JS="1")
        pdf.Root.Names = Dictionary(JavaScript=scripts.obj)
        pdf.Root.AcroForm = Dictionary(Fields=Array(), XFA=pdf.make_stream(b"<xdp/>"))
        for key in ("Title", "Author", "Subject", "Keywords"):
            pdf.docinfo[f"/{key}"] = f"Another {key}"
        pdf.Root.Lang = String("en")
    encrypted = tmp_path / "3.pdf"
    encrypted.write_bytes(documents.encrypted(user=""))

    with merged(first, tmp_path / "2.pdf", tmp_path / "2.pdf", encrypted) as (_, warnings):
        info = ("the title", "the author", "the subject", "the keywords")
        lost = (*info, "the language", "tags", "scripts", "the XFA form")
        expected = [f"Merging the files has lost {name} of files 2 and 3." for name in lost]
        assert warnings == [*expected, "Merging the files has lost restrictions of file 4."]


@pytest.mark.parametrize(
    ("entry", "value", "name", "lost_as_first", "lost_as_second"),
    [
        ("Outlines", Dictionary(First=Dictionary(), Count=Name.Many), "bookmarks", True, True),
        ("Names", Dictionary(Dests=Dictionary(Kids=Array([1]))), "", False, False),
        ("Names", Dictionary(EmbeddedFiles=Dictionary(Names=Array([1]))), "", False, False),
        ("PageLabels", Dictionary(Nums=Array([Name.A, Name.B, Name.C])), "", False, False),
        ("AcroForm", Dictionary(Fields=Array([Dictionary()]), SigFlags=""), "form fields", 1, 1),
        ("OCProperties", Dictionary(OCGs=Array([1]), D=Array()), "layers", False, True),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_damaged_file_keeps_its_pages(
    entry: str,
    value: Dictionary,
    name: str,
    lost_as_first: bool,
    lost_as_second: bool,
    is_first: bool,
    tmp_path: Path,
) -> None:
    with changing(tmp_path / "1.pdf") as pdf:
        pdf.Root[f"/{entry}"] = value
    files = [tmp_path / "1.pdf", rich(tmp_path / "2.pdf", "two")]

    with merged(*(files if is_first else files[::-1])) as (pdf, warnings):
        assert len(pdf.pages) == 4
        is_lost = lost_as_first if is_first else lost_as_second
        assert warnings == [f"Merging the files has lost {name} of file 2."] * is_lost


def test_an_endless_outline_ends(tmp_path: Path) -> None:
    second = rich(tmp_path / "2.pdf", "two")
    with pikepdf.open(second, allow_overwriting_input=True) as pdf:
        pdf.Root.Outlines.First.Next = pdf.Root.Outlines.First
        pdf.Root.Outlines.First.First.First = pdf.Root.Outlines.First
        pdf.save()

    with (
        merged(rich(tmp_path / "1.pdf", "one"), second) as (pdf, warnings),
        pdf.open_outline() as outline,
    ):
        assert warnings == []
        assert [row.title for row in outline.root] == ["chapter of one", "chapter of two"]
