"""OCRmyPDF's command-line arguments as options of a job."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from ocrmypdf.cli import get_parser

from ocr_tasks import errors
from web.dialects import ocrmypdf_args


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("", {"mode": "refuse"}),
        ("--skip-text --language deu+eng", {"mode": "skip", "languages": ["deu", "eng"]}),
        ("-l deu -l eng", {"languages": ["deu", "eng"]}),
        ("--redo-ocr", {"mode": "redo"}),
        ("-f", {"mode": "force"}),
        ("--mode=force --force-ocr", {"mode": "force"}),
        ("--mode default", {"mode": "refuse"}),
        ("-rdc", {"rotate_pages": True, "deskew": True, "clean": True}),
        ("--remove-background", {"remove_background": True}),
        ("--output-type pdf -O3", {"output_type": "pdf", "optimize": 3}),
        ("--output-type=pdfa-2 --optimize=0", {"output_type": "pdfa", "optimize": 0}),
        ("--pages 1-3,7-end", {"pages": "1-3,7-end"}),
        ("--tesseract-pagesegmode 7", {"page_segmentation": 7}),
        ("--image-dpi 300", {"image_dpi": 300}),
        ("--title 'Two words' --author=Anna", {"title": "Two words", "author": "Anna"}),
        ('--subject "a \\"b\\""', {"subject": 'a "b"'}),
        ("--invalidate-digital-signatures", {"allow_signed": True}),
        ("--sidecar text.txt --deskew", {"sidecar": True, "deskew": True}),
        ("-q -j 4 -v 1 -n --no-progress-bar --use-threads", {"mode": "refuse"}),
    ],
)  # fmt: skip
def test_arguments_of_ocrmypdf_become_options_of_a_job(words: str, options: dict[str, Any]) -> None:
    chosen = ocrmypdf_args.parse(words)

    plain = ocrmypdf_args.parse("").model_dump()
    assert chosen.model_dump() == plain | options


def test_further_options_can_be_given() -> None:
    assert ocrmypdf_args.parse("--deskew", priority="bulk").priority == "bulk"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--oversample 300", "'--oversample' is not supported; supported arguments: --skip-text"),
        ("--plugin /etc/passwd", "'--plugin' is not supported"),
        ("--tesseract-config /etc/passwd", "'--tesseract-config' is not supported"),
        ("--unpaper-args '--layout double'", "'--unpaper-args' is not supported"),
        ("--lang deu", "'--lang' is not supported"),
        ("in.pdf out.pdf", "'in.pdf' is not supported"),
        ("@/etc/passwd", "'@/etc/passwd' is not supported"),
        ("--help", "'--help' is not supported"),
        ("--", "'--' is not supported"),
        ("--title", "expected one argument"),
        ("--title 'unclosed", "cannot be parsed"),
        ("--deskew=3", "--deskew/-d"),
        ("--skip-text --redo-ocr", "Choose one of --skip-text"),
        ("--mode strip", "invalid choice: 'strip'"),
        ("--output-type none", "invalid choice: 'none'"),
        ("--optimize 7", "--optimize: "),
        ("--tesseract-pagesegmode 2", "--tesseract-pagesegmode: "),
        ("--image-dpi many", "--image-dpi: "),
        ("--pages 9-1", "--pages: page numbers start at 1"),
        ("--language ../../etc", "--language: "),
        ("--language osd", "--language: osd is not a language"),
        ("--redo-ocr --deskew", "choose mode=force"),
        ("--title " + "x" * 10_000, "more than 10000 characters"),
    ],
)
def test_unknown_arguments_are_refused_by_name(words: str, told: str) -> None:
    with pytest.raises(errors.InvalidOptions) as refused:
        ocrmypdf_args.parse(words)

    assert told in refused.value.detail


def test_every_argument_exists_in_ocrmypdf() -> None:
    theirs = {name for action in get_parser()._actions for name in action.option_strings}
    theirs |= {"--tesseract-pagesegmode", "--optimize", "-O"}  # arguments of its plugins

    ours = {name for names, _ in ocrmypdf_args.understood() for name in names.split(", ")}

    assert ours <= theirs


def test_ocrmypdf_splits_a_command_line_in_the_same_way() -> None:
    words = "-rd --title 'Two words' -l deu+eng -j 2 --image-dpi=300 --sidecar x.txt"

    theirs = get_parser().parse_args([*shlex.split(words), "in.pdf", "out.pdf"])
    ours = ocrmypdf_args.parse(words)

    assert (theirs.rotate_pages, theirs.deskew) == (ours.rotate_pages, ours.deskew)
    assert theirs.title == ours.title == "Two words"
    assert theirs.languages == ours.languages
    assert theirs.image_dpi == ours.image_dpi
