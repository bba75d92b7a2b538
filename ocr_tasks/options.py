"""The options of a job.

One model defines the form of `POST /v1/jobs`, the schema at `GET /v1/options`, the options in the
job's record and the options that OCRmyPDF receives. For security, no option contains a file name,
a plugin or arguments of a program.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from ocr_tasks import errors, settings

Language = Annotated[str, StringConstraints(pattern=r"^(script/)?[A-Za-z0-9_]{2,32}$")]
Mode = Literal["skip", "redo", "force", "refuse"]
OutputType = Literal["pdfa", "pdf"]

#: Tesseract's page segmentation modes that recognize text (tesseract --help-psm).
PageSegmentation = Literal[1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]

_RANGES = re.compile(r"\d{1,7}(-(\d{1,7}|end))?(,\d{1,7}(-(\d{1,7}|end))?)*")
#: Models that Tesseract uses internally; they cannot be selected as languages.
INTERNAL_LANGUAGES = frozenset({"osd", "equ"})


def _default_languages() -> list[str]:
    return settings.get().default_languages.split("+")


class JobOptions(BaseModel):
    """The options for the OCR of a document."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="Options of a job")

    languages: list[Language] = Field(
        default_factory=_default_languages,
        min_length=1,
        max_length=8,
        title="Languages",
        description="Languages of the text, the main one first. In a form: repeat the field, or "
        "join the languages with `+`. GET /v1/languages lists the installed ones.",
    )
    mode: Mode = Field(
        "skip",
        title="Pages that already have text",
        description="What to do with pages that already have text. skip: keep them as they are and "
        "run OCR on the others, and on scans with only a few words. redo: replace the invisible "
        "text of an earlier OCR. force: rasterize every page and run OCR on it. refuse: fail if a "
        "page has text.",
    )
    rotate_pages: bool = Field(
        False,
        title="Rotate pages",
        description="Detect pages in the wrong orientation and rotate them.",
    )
    deskew: bool = Field(
        False, title="Deskew", description="Straighten pages that were scanned at an angle."
    )
    clean: bool = Field(
        False,
        title="Clean before OCR",
        description="Remove specks from the image for OCR (unpaper); the page itself does not "
        "change.",
    )
    remove_background: bool = Field(
        False,
        title="Remove the background",
        description="Make the background of grayscale and color pages white.",
    )
    output_type: OutputType = Field(
        "pdfa", title="Output type", description="pdfa: PDF/A for archiving. pdf: plain PDF."
    )
    optimize: Literal[0, 1, 2, 3] = Field(
        1,
        title="Optimization",
        description="0: none. 1: lossless. 2 and 3: smaller images with some loss of quality.",
    )
    pages: str | None = Field(
        None,
        max_length=1000,
        title="Pages to process",
        description="Page numbers and ranges, e.g. `1-3,7,9-end`. The other pages stay as they "
        "are. Default: all pages.",
    )
    page_segmentation: PageSegmentation | None = Field(
        None,
        title="Page segmentation",
        description="Page segmentation mode of Tesseract, e.g. 6 for a single block of text or 11 "
        "for sparse text. Default: Tesseract's default.",
    )
    image_dpi: int | None = Field(
        None,
        ge=30,
        le=2400,
        title="Resolution of images",
        description="Resolution of uploaded images in DPI, if their metadata is missing or wrong.",
    )
    title: str | None = Field(None, max_length=1000, description="Title in the PDF's metadata.")
    author: str | None = Field(None, max_length=1000, description="Author in the PDF's metadata.")
    subject: str | None = Field(None, max_length=1000, description="Subject in the PDF's metadata.")
    keywords: str | None = Field(
        None, max_length=1000, description="Keywords in the PDF's metadata."
    )
    sidecar: bool = Field(
        True, title="Text file", description="Provide the text as a separate file."
    )
    priority: Literal["interactive", "normal", "bulk"] = Field(
        "normal",
        title="Priority",
        description="interactive: processed first, for users who are waiting. bulk: processed "
        "last, but at least one turn in five goes to bulk documents, even under load.",
    )
    engine: Literal["local", "swarm", "auto"] = Field(
        "local",
        title="OCR engine",
        description="local: the workers. swarm: devices in the swarm, and the workers for pages "
        "that no device takes in time. auto: the workers, and also devices when all workers are "
        "busy.",
    )
    on_page_error: Literal["keep", "fail"] = Field(
        "keep",
        title="Pages on which OCR fails",
        description="keep: keep the image of the page; the job succeeds and lists the page. "
        "fail: fail the job.",
    )
    allow_signed: bool = Field(
        False,
        title="Signed documents",
        description="Process a PDF with a digital signature, which invalidates the signature.",
    )

    @field_validator("languages")
    @classmethod
    def _languages(cls, value: list[str]) -> list[str]:
        for language in value:
            if language in INTERNAL_LANGUAGES:
                raise ValueError(f"{language} is not a language of text")
        return list(dict.fromkeys(value))

    @field_validator("pages")
    @classmethod
    def _pages(cls, value: str | None) -> str | None:
        if value is None:
            return None
        value = value.replace(" ", "")
        if not _RANGES.fullmatch(value):
            raise ValueError("use page numbers and ranges, e.g. 1-3,7,9-end")
        for first, last in _ranges(value):
            if first < 1 or (last is not None and last < first):
                raise ValueError(
                    "page numbers start at 1, and a range starts with its smaller number"
                )
        return value

    @field_validator("title", "author", "subject", "keywords")
    @classmethod
    def _metadata(cls, value: str | None) -> str | None:
        # OCRmyPDF rejects private use and astral characters in metadata.
        for char in value or "":
            if unicodedata.category(char) in {"Cc", "Co", "Cs"} or ord(char) >= 0x10000:
                raise ValueError(f"the character U+{ord(char):04X} is not allowed in PDF metadata")
        return value or None

    @model_validator(mode="after")
    def _contradictions(self) -> JobOptions:
        if self.mode == "redo" and (self.deskew or self.remove_background):
            raise ValueError(
                "mode=redo cannot be combined with deskew or remove_background, which change how "
                "pages look; choose mode=force"
            )
        return self

    def check_pages(self, total: int) -> None:
        """Checks that a document of `total` pages has the selected pages."""
        for first, last in _ranges(self.pages or ""):
            if first > total or (last is not None and last > total):
                pages = "one page" if total == 1 else f"{total} pages"
                raise invalid("pages", f"the document has only {pages}")

    def check_languages(self, installed: Collection[str]) -> None:
        """Checks that the languages are installed. An empty `installed` means unknown: no check."""
        missing = [language for language in self.languages if language not in installed]
        if installed and missing:
            raise errors.LanguageUnavailable(
                f"Languages not installed: {', '.join(missing)}; "
                f"installed: {', '.join(sorted(installed))}",
                missing=missing,
                installed=sorted(installed),
            )

    def for_ocrmypdf(self, total: int) -> dict[str, Any]:
        """Returns the options for `ocrmypdf.OcrOptions`, for a document of `total` pages."""
        same = self.model_dump(
            include={
                *("languages", "rotate_pages", "deskew", "clean", "output_type", "optimize"),
                *("title", "author", "subject", "keywords", "image_dpi"),
            }
        )
        return same | {
            "mode": "default" if self.mode == "refuse" else self.mode,
            "pages": self.pages and self.page_numbers(total),
            "tesseract_pagesegmode": self.page_segmentation,
            "invalidate_digital_signatures": self.allow_signed,
        }

    def page_numbers(self, total: int) -> str:
        """Returns the selected pages, with `end` replaced by the number of the last page."""
        return ",".join(f"{first}-{last or total}" for first, last in _ranges(self.pages or ""))


def _ranges(pages: str) -> list[tuple[int, int | None]]:
    """Returns the first and last page of each range; None as the last page: to the end."""
    ranges: list[tuple[int, int | None]] = []
    for part in filter(None, pages.split(",")):
        first, dash, last = part.partition("-")
        end = None if last == "end" else int(last if dash else first)
        ranges.append((int(first), end))
    return ranges


def invalid(option: str, detail: str) -> errors.InvalidOptions:
    """Returns the error for one invalid option."""
    return errors.InvalidOptions(
        f"{option}: {detail}", errors=[{"pointer": f"#/{option}", "detail": detail}]
    )


def parse(form: Mapping[str, Sequence[str]]) -> JobOptions:
    """Returns the options from form fields, which map each name to its values."""
    values: dict[str, Any] = {}
    for name, sent in form.items():
        if name == "languages":
            values[name] = [part for value in sent for part in re.split(r"[+,\s]+", value) if part]
        elif len(sent) > 1:
            raise invalid(name, "sent more than once")
        elif sent[0] != "" or name not in JobOptions.model_fields:
            values[name] = sent[0]  # an empty form field means: use the default
    return from_dict(values)


def from_dict(values: Mapping[str, Any]) -> JobOptions:
    """Returns the options from a mapping, e.g. a job's record."""
    try:
        return JobOptions.model_validate(_numbers(values))
    except ValidationError as error:
        rows = [
            {
                "pointer": "#/" + "/".join(str(part) for part in row["loc"]),
                "detail": "unknown option"
                if row["type"] == "extra_forbidden"
                else row["msg"].removeprefix("Value error, "),
            }
            for row in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise errors.InvalidOptions(
            "; ".join(f"{row['pointer'][2:][:100] or 'options'}: {row['detail']}" for row in rows),
            errors=rows,
        ) from None


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Converts digits of numeric choices to numbers, because pydantic does not."""
    choices = ("optimize", "page_segmentation")
    return {
        name: int(value)
        if name in choices and isinstance(value, str) and re.fullmatch(r"[0-9]{1,2}", value)
        else value
        for name, value in values.items()
    }
