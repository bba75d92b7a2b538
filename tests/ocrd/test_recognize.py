"""The built-in processor: its OCR, and its conformance to OCR-D's command-line interface."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import redis
from lxml import etree
from PIL import Image, ImageDraw, ImageFont

from ocr_tasks import errors, settings
from ocr_tasks.formats.page import Page
from ocr_tasks.ocrd import engine, page_xml, recognition, recognize, running
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd.mets.mets import Mets
from ocr_tasks.ocrd.model import RECOGNIZE
from ocr_tasks.ocrd.recognition import Order
from ocr_tasks.plugin import tesseract

PAGE = "{http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15}"
NOTHING = b'<mets:mets xmlns:mets="http://www.loc.gov/METS/"><mets:fileSec/></mets:mets>'
PARAMETERS = {
    **{"languages": "eng", "page_segmentation": 6, "dpi": 150, "overwrite_segments": False}
}

Change = Callable[..., Order]


def _picture(text: str, size: tuple[int, int] = (400, 120)) -> Image.Image:
    image = Image.new("L", size, "white")
    ImageDraw.Draw(image).text((40, 40), text, fill="black", font=ImageFont.load_default(32))
    return image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Creates a workspace of two pages, P1 and P2, with images in IMG."""
    folder = tmp_path / "workspace"
    (folder / "IMG").mkdir(parents=True)
    mets = Mets.parse(NOTHING)
    for page, text in {"P1": "harbour", "P2": "garden"}.items():
        _picture(text).save(folder / "IMG" / f"{page}.png")
        mets.add_file("IMG", f"IMG_{page}", page, "image/png", f"IMG/{page}.png")
    mets.write(folder / "mets.xml")
    return folder


@pytest.fixture
def order(folder: Path) -> Order:
    return Order(folder, folder / "mets.xml", "IMG", "OUT", "", PARAMETERS, "ABORT")


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the processor in this process; it configures its own logging."""
    monkeypatch.setattr(recognize, "_log", lambda level: None)

    def run(*arguments: object) -> int:
        try:
            return recognize.main([str(each) for each in arguments])
        except SystemExit as end:
            return int(end.code or 0)

    return run


def _texts(folder: Path, group: str = "OUT") -> dict[str, str]:
    """Returns the recognized texts by page."""
    mets = Mets.read(folder / "mets.xml")
    return {
        file.page: " ".join(
            line.findtext(f"{PAGE}TextEquiv/{PAGE}Unicode", "")
            for line in etree.parse(folder / file.href).iter(f"{PAGE}TextLine")
        )
        for file in mets.files(group)
    }


def _replace_input(folder: Path, page: str, document: str) -> None:
    """Replaces the input of a page with a PAGE document, in the group DOC."""
    (folder / "DOC").mkdir(exist_ok=True)
    (folder / "DOC" / f"{page}.xml").write_text(document)
    mets = Mets.read(folder / "mets.xml")
    mets.add_file("DOC", f"DOC_{page}", page, page_xml.MEDIA_TYPE, f"DOC/{page}.xml")
    mets.write(folder / "mets.xml")


def _document(image: str, *others: tuple[str, str], regions: str = "") -> str:
    alternatives = "".join(
        f'<AlternativeImage filename="{name}" comments="{features}"/>' for name, features in others
    )
    return (
        f'<PcGts xmlns="{PAGE[1:-1]}"><Page imageFilename="{image}">{alternatives}{regions}'
        "</Page></PcGts>"
    )


# OCR


def test_each_page_becomes_a_page_xml_document(order: Order) -> None:
    recognition.run(order)

    assert _texts(order.folder) == {"P1": "harbour", "P2": "garden"}
    mets = Mets.read(order.mets)
    mets.check(order.folder)
    rows = [(file.id, file.page, file.media_type, file.href) for file in mets.files("OUT")]
    assert rows[0] == ("OUT_P1", "P1", "application/vnd.prima.page+xml", "OUT/OUT_P1.xml")
    root = etree.parse(order.folder / "OUT" / "OUT_P1.xml").getroot()
    page = root.find(f"{PAGE}Page")
    assert page is not None
    assert root.get("pcGtsId") == "OUT_P1"
    assert page.get("imageFilename") == "IMG/P1.png"
    assert (page.get("imageWidth"), page.get("imageHeight")) == ("400", "120")
    item = root.find(f"{PAGE}Metadata/{PAGE}MetadataItem")
    assert item is not None
    assert item.get("value") == RECOGNIZE
    agent = etree.parse(order.mets).find(".//{http://www.loc.gov/METS/}agent")
    assert agent is not None
    assert (
        agent.findtext("{http://www.loc.gov/METS/}name") == f"{RECOGNIZE} v{version('ocr-tasks')}"
    )


def test_only_the_selected_pages_are_processed(order: Order) -> None:
    recognition.run(replace(order, page_id="P2"))
    assert _texts(order.folder) == {"P2": "garden"}


def test_the_image_that_a_document_names_is_processed(order: Order) -> None:
    _picture("window").save(order.folder / "IMG" / "binarized.png")
    _picture("thunder").save(order.folder / "IMG" / "cropped.png")
    _picture("lantern", (500, 120)).save(order.folder / "IMG" / "larger.png")
    others = [
        ("IMG/P2.png", "despeckled"),
        ("IMG/binarized.png", "binarized"),
        ("IMG/cropped.png", "binarized,cropped"),
        ("IMG/larger.png", "binarized"),
    ]
    _replace_input(order.folder, "P1", _document("IMG/P1.png", *others))
    _replace_input(order.folder, "P2", _document("IMG/P1.png", ("IMG/P2.png", "deskewed")))

    recognition.run(replace(order, input_file_grp="DOC"))

    assert _texts(order.folder) == {"P1": "window", "P2": "harbour"}
    found = page_xml.read((order.folder / "OUT" / "OUT_P1.xml").read_bytes())
    assert found.image == "IMG/P1.png"
    assert [other.image for other in found.alternatives] == [name for name, _ in others]


def test_regions_without_lines_cause_a_warning(
    order: Order, caplog: pytest.LogCaptureFixture
) -> None:
    regions = '<TextRegion id="a"/><TextRegion id="b"/>'
    _replace_input(order.folder, "P1", _document("IMG/P1.png", regions=regions))
    recognition.run(replace(order, input_file_grp="DOC", page_id="P1"))
    assert _texts(order.folder) == {"P1": "harbour"}
    assert "page P1: 2 regions of the input are ignored" in caplog.text


LINES = """
<TextRegion id="r" custom="mine"><Coords points="0,0 399,0 399,199 0,199"/>
<TextLine id="lower"><Coords points="20,105 380,105 380,160 20,160"/></TextLine>
<TextLine id="upper"><Coords points="20,35 380,35 380,90 20,90"/><Baseline points="40,70 200,70"/>
<Word id="w"><Coords points="0,0 1,0 1,1"/></Word><TextEquiv><Unicode>old</Unicode></TextEquiv>
</TextLine>
<TextLine id="outside"><Coords points="500,500 600,500 600,600"/></TextLine>
<TextLine id="speck"><Coords points="390,190 391,190 391,191"/></TextLine>
<TextLine id="word"><Coords points="20,35 157,35 157,90 20,90"/></TextLine>
</TextRegion><GraphicRegion id="g"><Coords points="0,0 9,0 9,9"/></GraphicRegion>
"""


def test_lines_of_the_input_are_processed_and_preserved(order: Order) -> None:
    image = _picture("window garden", (400, 200))
    image.paste(_picture("harbour", (400, 120)).crop((0, 35, 400, 95)), (0, 105))
    image.save(order.folder / "IMG" / "P1.png")
    _replace_input(order.folder, "P1", _document("IMG/P1.png", regions=LINES))
    order = replace(order, input_file_grp="DOC", page_id="P1")

    recognition.run(order)

    root = etree.parse(order.folder / "OUT" / "OUT_P1.xml").getroot()
    text = f"{PAGE}TextEquiv/{PAGE}Unicode"
    assert {line.get("id"): line.findtext(text) for line in root.iter(f"{PAGE}TextLine")} == {
        **{"lower": "harbour", "upper": "window garden", "word": "window"},
        **{"outside": None, "speck": None},
    }
    assert root.get("pcGtsId") == "OUT_P1"
    assert root.find(f".//{PAGE}GraphicRegion") is not None
    for word in root.iterfind(f".//{PAGE}TextLine[@id='upper']/{PAGE}Word"):
        coords = word.find(f"{PAGE}Coords")
        assert coords is not None
        points = [tuple(map(int, point.split(","))) for point in coords.get("points", "").split()]
        assert image.crop((*points[0], *points[2])).getextrema()[0] == 0  # there is ink
        assert all(20 <= x <= 380 and 35 <= y <= 90 for x, y in points)

    recognition.run(
        replace(
            order,
            output_file_grp="NEW",
            parameters=PARAMETERS | {"overwrite_segments": True},
        )
    )
    assert _texts(order.folder, "NEW") == {"P1": "window garden harbour"}


def test_all_lines_together_have_the_time_limit_of_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    image, line = _picture("harbour"), [(0, 0), (399, 0), (399, 119), (0, 119)]
    assert len(engine.recognize_lines(image, [line] * 3, ("eng",), 60)) == 3
    times = iter([0.0, 1.0, 61.0])
    monkeypatch.setattr(engine.time, "monotonic", lambda: next(times))
    monkeypatch.setattr(engine, "recognize", lambda *_: Page.empty(1, 1, 1, 300))
    with pytest.raises(errors.PageTimeout):
        engine.recognize_lines(image, [line] * 3, ("eng",), 60)


def test_the_tesseract_program_has_the_same_result(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = _picture("harbour and garden", (700, 120))
    image.info["dpi"] = (150, 150)

    def read() -> Page:
        return engine.recognize(image, ("eng",), 6, 60)

    ours = read()
    monkeypatch.setattr(tesseract, "tesserocr", None)
    theirs = read()
    assert [word.text for word in theirs.words] == [word.text for word in ours.words]
    assert (theirs.width, theirs.height, theirs.dpi) == (700, 120, 150)
    with pytest.raises(errors.PageUnreadable):
        engine.recognize(image, ("none",), 6, 60)
    with pytest.raises(errors.PageTimeout):
        engine.recognize(image, ("eng",), 6, 0.001)


@pytest.mark.parametrize(
    ("stated", "asked", "expected"), [(None, 200, "200"), (300, 0, "300"), (300, 200, "200")]
)
def test_the_resolution_is_the_parameter_or_that_of_the_image(
    order: Order, stated: int | None, asked: int, expected: str
) -> None:
    dpi = {} if stated is None else {"dpi": (stated, stated)}
    _picture("harbour").save(order.folder / "IMG" / "P1.png", **dpi)
    recognition.run(replace(order, page_id="P1", parameters=PARAMETERS | {"dpi": asked}))
    page = etree.parse(order.folder / "OUT" / "OUT_P1.xml").find(f"{PAGE}Page")
    assert page is not None
    assert page.get("imageXResolution") == expected


def test_an_invalid_resolution_is_ignored(order: Order) -> None:
    _picture("harbour").save(order.folder / "IMG" / "P1.png", dpi=(1, 1))
    recognition.run(replace(order, page_id="P1", parameters=PARAMETERS | {"dpi": 0}))
    assert _texts(order.folder) == {"P1": "harbour"}


# Existing output


def test_existing_output_is_kept_overwritten_or_fails_the_run(order: Order) -> None:
    recognition.run(replace(order, page_id="P1"))
    _picture("window").save(order.folder / "IMG" / "P1.png")

    with pytest.raises(ocrd_errors.ProcessingInvalid, match="OUT already has output"):
        recognition.run(order)
    assert _texts(order.folder) == {"P1": "harbour"}

    recognition.run(replace(order, existing="SKIP"))
    assert _texts(order.folder) == {"P1": "harbour", "P2": "garden"}

    recognition.run(replace(order, existing="OVERWRITE"))
    assert _texts(order.folder) == {"P1": "window", "P2": "garden"}
    assert len(list((order.folder / "OUT").iterdir())) == 2


def test_other_pages_can_be_added_to_an_existing_group(order: Order) -> None:
    recognition.run(replace(order, page_id="P1"))
    recognition.run(replace(order, page_id="P2"))
    assert _texts(order.folder) == {"P1": "harbour", "P2": "garden"}


# Errors


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"input_file_grp": "NONE"}, ocrd_errors.FileGroupUnknown),
        ({"output_file_grp": "../OUT"}, ocrd_errors.ProcessingInvalid),
        ({"page_id": "P3"}, ocrd_errors.PageIdsInvalid),
        ({"parameters": PARAMETERS | {"languages": "../eng"}}, ocrd_errors.ParametersInvalid),
        ({"parameters": PARAMETERS | {"languages": "eng+osd"}}, ocrd_errors.ParametersInvalid),
        ({"parameters": PARAMETERS | {"languages": ""}}, ocrd_errors.ParametersInvalid),
    ],
    ids=["input group", "output group", "page", "path", "no language", "empty"],
)
def test_an_invalid_run_is_refused(
    order: Order, change: dict[str, Any], error: type[Exception]
) -> None:
    before = order.mets.read_bytes()
    with pytest.raises(error):
        recognition.run(replace(order, **change))
    assert order.mets.read_bytes() == before
    assert not (order.folder / "OUT").exists()


@pytest.mark.parametrize(
    "image", ["../secret.png", "IMG/link.png", "http://127.0.0.1:1/a.png", "IMG/none.png", "IMG"]
)
def test_images_outside_the_workspace_are_not_opened(order: Order, image: str) -> None:
    _picture("secret").save(order.folder.parent / "secret.png")
    (order.folder / "IMG" / "link.png").symlink_to("../../secret.png")
    _replace_input(order.folder, "P1", _document(image))
    _replace_input(order.folder, "P2", _document("IMG/P1.png", (image, "binarized")))
    with pytest.raises(ocrd_errors.ProcessorFailed, match="2 of 2 pages"):
        recognition.run(replace(order, input_file_grp="DOC"))
    assert not (order.folder / "OUT").exists()


def test_a_symbolic_link_is_not_followed_for_output(order: Order, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (order.folder / "OUT").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ocrd_errors.ProcessorFailed):
        recognition.run(order)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_an_image_with_too_many_pixels_is_not_decoded(
    order: Order, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OCR_MAX_IMAGE_MEGAPIXELS", "0.04")
    settings.clear()
    try:
        with pytest.raises(ocrd_errors.ProcessorFailed):
            recognition.run(order)
    finally:
        monkeypatch.undo()
        settings.clear()
    assert "400 × 120 pixels" in caplog.text


@pytest.mark.parametrize(("pages", "fails"), [(9, True), (10, False)])
def test_one_page_in_ten_may_fail(order: Order, pages: int, fails: bool) -> None:
    mets = Mets.parse(NOTHING)
    _picture("a", (60, 60)).save(order.folder / "IMG" / "small.png")
    (order.folder / "IMG" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    for number in range(pages):
        name = "small" if number else "broken"
        mets.add_file("IMG", f"I{number}", f"P{number}", "image/png", f"IMG/{name}.png")
    mets.write(order.mets)
    before = order.mets.read_bytes()
    if fails:
        with pytest.raises(ocrd_errors.ProcessorFailed, match="OCR failed on 1 of 9 pages"):
            recognition.run(order)
        assert order.mets.read_bytes() == before
    else:
        recognition.run(order)
        assert Mets.read(order.mets).pages_of("OUT") == {f"P{n}" for n in range(1, 10)}


# Command line


def test_the_description_is_valid_for_ocrd(
    ocrd_bin: Path, main: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("--dump-json") == 0
    tool = json.loads(capsys.readouterr().out)
    assert tool["executable"] == RECOGNIZE
    path = tmp_path / "ocrd-tool.json"
    whole = {"version": "1.0.0", "git_url": "https://git.example", "tools": {RECOGNIZE: tool}}
    path.write_text(json.dumps(whole))
    said = subprocess.run(
        [ocrd_bin / "ocrd", "ocrd-tool", path, "validate"], capture_output=True, check=False
    )
    assert b'valid="true"' in said.stdout, said


def test_the_command_processes_pages(
    folder: Path, main: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    run = ("-m", folder / "mets.xml", "-I", "IMG", "-O", "OUT", "-P", "page_segmentation", 6)
    assert main(*run, "-g", "P1") == 0
    assert main("-w", folder, *run[2:], "-g", "P2") == 0
    assert _texts(folder) == {"P1": "harbour", "P2": "garden"}
    assert main(*run, "-g", "P1") == 1
    assert "OUT already has output" in caplog.text
    assert main(*run, "--overwrite") == 0


def test_later_arguments_take_precedence(
    main: Callable[..., int], folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "preset.json"
    path.write_text('# a preset\n{"dpi": 111,\n # of mine\n "page_segmentation": 6}')
    run = ("-w", folder, "-I", "IMG", "-g", "P1")
    assert main(*run, "-O", "A", "-p", path) == 0
    assert main(*run, "-O", "B", "-p", path, "-p", '{"dpi": 122}') == 0
    assert (
        main(*run, "-O", "C", "-P", "dpi", 133, "-p", '{"dpi": 122, "page_segmentation": 6}') == 0
    )
    for group, expected in {"A": "111", "B": "122", "C": "133"}.items():
        page = etree.parse(folder / group / f"{group}_P1.xml").find(f"{PAGE}Page")
        assert page is not None
        assert page.get("imageXResolution") == expected


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-I", "IMG"],
        ["-I", "IMG", "-O", "OUT", "-w", "/nowhere"],
        ["-I", "IMG", "-O", "OUT", "-p", "[1]"],
        ["-I", "IMG", "-O", "OUT", "-p", "/nowhere/parameters.json"],
        ["-I", "IMG", "-O", "OUT", "-p", "{"],
        ["-I", "IMG", "-O", "OUT", "-P", "unknown", "1"],
        ["-I", "IMG", "-O", "OUT", "-P", "dpi", "many"],
        ["-I", "IMG", "-O", "OUT", "-P", "page_segmentation", "0"],
        ["-I", "IMG", "-O", "OUT", "-P", "languages", "tlh"],
        ["-I", "IMG", "-O", "OUT", "--unknown"],
        ["-I", "IMG", "-O", "OUT", "-P", "dpi"],
        ["-I", "IMG", "-O", "OUT", "-l", "LOUD"],
    ],
    ids=range(13),
)
def test_every_error_has_the_exit_code_1(
    main: Callable[..., int], folder: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert main(*arguments) == 1
    assert not (folder / "OUT").exists()


def test_help_and_version_are_printed(
    main: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("--help") == 0
    said = capsys.readouterr().out
    assert all(f"  {name} [" in said for name in PARAMETERS)
    assert main("--version") == 0
    assert version("ocr-tasks") in capsys.readouterr().out


def test_the_program_logs_like_ocrd(folder: Path) -> None:
    command = [sys.executable, "-m", "ocr_tasks.ocrd.recognize", "-w", folder, "-I", "IMG"]
    (folder / "IMG" / "P2.png").write_bytes(b"broken")
    done = subprocess.run([*command, "-O", "OUT"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    levels = [
        re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} ([A-Z]+) [\w.]+ - .+", line)
        for line in done.stderr.splitlines()
    ]
    assert [found and found[1] for found in levels] == ["INFO", "ERROR", "CRITICAL"]


# In a worker


def test_a_worker_runs_it_in_its_own_process(
    processors: redis.Redis, kant: Path, tmp_path: Path, ocrd_bin: Path
) -> None:
    log = tmp_path / "log"
    parameters = PARAMETERS | {"languages": "deu", "page_segmentation": 3, "dpi": 0}
    order = running.Order(
        *(RECOGNIZE, kant, "0" * 16, ("OCR-D-IMG",), ("OCR-D-OCR",), ["PHYS_0017"]),
        *(parameters, "00000000-0000-4000-8000-000000000001"),
    )
    running.run(order, log)
    wrong = replace(
        order,
        output_file_grps=("WRONG",),
        parameters=parameters | {"languages": "tlh"},
        run_id="00000000-0000-4000-8000-000000000002",
    )
    with pytest.raises(ocrd_errors.ProcessorFailed, match="not installed: tlh"):
        running.run(wrong, log)

    assert re.search(r"^[\d:.]+ INFO [\w.]+ - page PHYS_0017 done$", log.read_text(), re.M)
    (file,) = Mets.read(kant).files("OCR-D-OCR")
    assert (file.id, file.page) == ("OCR-D-OCR_PHYS_0017", "PHYS_0017")
    words = etree.parse(kant.parent / file.href).iter(f"{PAGE}Word")
    texts = {word.findtext(f"{PAGE}TextEquiv/{PAGE}Unicode") for word in words}
    assert {"der", "Natur", "Theil"} <= texts
    assert "WRONG" not in Mets.read(kant).groups


def test_it_yields_to_other_jobs_between_two_pages(
    service: redis.Redis, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = running.Order(
        *(RECOGNIZE, folder / "mets.xml", "0" * 16, ("IMG",), ("OUT",), None, PARAMETERS),
        "00000000-0000-4000-8000-000000000003",
    )

    def run(order: running.Order) -> bool:
        return running.run(order, tmp_path / "log", should_yield=lambda: True)

    assert not run(order)
    assert _texts(folder) == {"P1": "harbour"}
    assert run(order)
    assert _texts(folder) == {"P1": "harbour", "P2": "garden"}

    # With overwriting, the next run would begin with the first page.
    monkeypatch.setenv("OCR_OCRD_EXISTING_OUTPUT", "overwrite")
    settings.clear()
    assert run(replace(order, output_file_grps=("MORE",)))
    assert _texts(folder, "MORE") == {"P1": "harbour", "P2": "garden"}


def test_a_failed_page_does_not_end_the_turn(order: Order) -> None:
    (order.folder / "IMG" / "P1.png").write_bytes(b"broken")
    with pytest.raises(ocrd_errors.ProcessorFailed, match="1 of 2 pages"):
        recognition.run(order, should_yield=lambda: True)
