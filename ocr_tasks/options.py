"""What a client may ask for, and nothing else.

One model: the form of `POST /v1/jobs`, the schema at `GET /v1/options`, the options in the job's
record and what OCRmyPDF gets all follow from it. Nothing in it names a file, a plugin or a
program's arguments.
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

#: Tesseract's page segmentation modes that read text (tesseract --help-psm).
PageSegmentation = Literal[1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]

_RANGES = re.compile(r"\d{1,7}(-(\d{1,7}|end))?(,\d{1,7}(-(\d{1,7}|end))?)*")
#: Languages for Tesseract's own use, which cannot be read.
INTERNAL_LANGUAGES = frozenset({"osd", "equ"})


def _default_languages() -> list[str]:
    return settings.get().default_languages.split("+")


class JobOptions(BaseModel):
    """How a document is to be read."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="Options of a job")

    languages: list[Language] = Field(
        default_factory=_default_languages,
        min_length=1,
        max_length=8,
        title="Languages",
        description="Languages of the text, the main one first. In a form: repeat the field, or "
        "join them with +. See GET /v1/languages.",
    )
    mode: Mode = Field(
        "skip",
        title="Pages that already have text",
        description="skip: keep such pages as they are and read the others. redo: replace "
        "invisible text of an earlier OCR. force: make every page an image and read it anew. "
        "refuse: fail if there is text.",
    )
    rotate_pages: bool = Field(
        False,
        title="Turn pages upright",
        description="Find pages that lie on a side and turn them.",
    )
    deskew: bool = Field(
        False, title="Straighten", description="Straighten pages that were scanned askew."
    )
    clean: bool = Field(
        False,
        title="Clean before reading",
        description="Remove specks from the image that is read (unpaper); the page itself keeps "
        "its look.",
    )
    remove_background: bool = Field(
        False,
        title="Whiten the background",
        description="Make the paper of grey and coloured pages white.",
    )
    output_type: OutputType = Field(
        "pdfa", title="Kind of PDF", description="pdfa: PDF/A for archives. pdf: plain PDF."
    )
    optimize: Literal[0, 1, 2, 3] = Field(
        1,
        title="Optimisation",
        description="0: none. 1: lossless. 2 and 3: smaller images with some loss.",
    )
    pages: str | None = Field(
        None,
        max_length=1000,
        title="Pages to read",
        description="Such as 1-3,7,9-end. The other pages stay as they are. All, if left out.",
    )
    page_segmentation: PageSegmentation | None = Field(
        None,
        title="Page segmentation",
        description="Tesseract's page segmentation mode; 6 for one block of text, 11 for sparse "
        "text. Tesseract's default, if left out.",
    )
    image_dpi: int | None = Field(
        None,
        ge=30,
        le=2400,
        title="Resolution of images",
        description="Dots per inch of uploaded images, where their own statement is missing or "
        "wrong.",
    )
    title: str | None = Field(None, max_length=1000, description="Title in the PDF's metadata.")
    author: str | None = Field(None, max_length=1000, description="Author in the PDF's metadata.")
    subject: str | None = Field(None, max_length=1000, description="Subject in the metadata.")
    keywords: str | None = Field(None, max_length=1000, description="Keywords in the metadata.")
    sidecar: bool = Field(
        True, title="Text file", description="Make the text an artifact of its own beside the PDF."
    )
    priority: Literal["interactive", "normal", "bulk"] = Field(
        "normal",
        title="Priority",
        description="interactive: somebody waits for it, so it goes first. bulk: it has time, and "
        "goes last; but one turn in five is a bulk document's even when others wait.",
    )
    engine: Literal["local", "swarm", "auto"] = Field(
        "local",
        title="Who reads",
        description="local: the workers. swarm: devices that have joined the swarm, and the "
        "workers where none takes a page in time. auto: the workers, and devices as well when all "
        "workers are busy.",
    )
    on_page_error: Literal["keep", "fail"] = Field(
        "keep",
        title="Pages that cannot be read",
        description="keep: the page keeps its image, the job succeeds and lists it. fail: the job "
        "fails.",
    )
    allow_signed: bool = Field(
        False,
        title="Signed documents",
        description="Read a PDF with a digital signature although that breaks the signature.",
    )

    @field_validator("languages")
    @classmethod
    def _languages(cls, value: list[str]) -> list[str]:
        for language in value:
            if language in INTERNAL_LANGUAGES:
                raise ValueError(f"{language} is not a language that can be read")
        return list(dict.fromkeys(value))

    @field_validator("pages")
    @classmethod
    def _pages(cls, value: str | None) -> str | None:
        if value is None:
            return None
        value = value.replace(" ", "")
        if not _RANGES.fullmatch(value):
            raise ValueError("write page numbers and ranges such as 1-3,7,9-end")
        for first, last in _ranges(value):
            if first < 1 or (last is not None and last < first):
                raise ValueError("pages count from 1, and a range runs from its smaller number up")
        return value

    @field_validator("title", "author", "subject", "keywords")
    @classmethod
    def _metadata(cls, value: str | None) -> str | None:
        # OCRmyPDF refuses private use and astral characters in metadata.
        for char in value or "":
            if unicodedata.category(char) in {"Cc", "Co", "Cs"} or ord(char) >= 0x10000:
                raise ValueError(f"the character U+{ord(char):04X} cannot stand in PDF metadata")
        return value or None

    @model_validator(mode="after")
    def _contradictions(self) -> JobOptions:
        if self.mode == "redo" and (self.deskew or self.remove_background):
            raise ValueError(
                "mode=redo keeps the pages as they look, so deskew and remove_background do not go "
                "with it; choose mode=force"
            )
        return self

    def check_pages(self, total: int) -> None:
        """Makes sure that the pages asked for are in a document of so many pages."""
        for first, last in _ranges(self.pages or ""):
            if first > total or (last is not None and last > total):
                raise invalid("pages", f"the document has {total} pages")

    def check_languages(self, installed: Collection[str]) -> None:
        """Makes sure that the languages are installed; knowing of none means not knowing."""
        missing = [language for language in self.languages if language not in installed]
        if installed and missing:
            raise errors.LanguageUnavailable(
                f"not installed: {', '.join(missing)}; installed: {', '.join(sorted(installed))}",
                missing=missing,
                installed=sorted(installed),
            )

    def for_ocrmypdf(self, total: int) -> dict[str, Any]:
        """The options as `ocrmypdf.OcrOptions` names them, for a document of so many pages."""
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
        """The pages asked for, with `end` replaced by the last one's number."""
        return ",".join(f"{first}-{last or total}" for first, last in _ranges(self.pages or ""))


def _ranges(pages: str) -> list[tuple[int, int | None]]:
    """First and last page of each range; None: to the end."""
    ranges: list[tuple[int, int | None]] = []
    for part in filter(None, pages.split(",")):
        first, dash, last = part.partition("-")
        end = None if last == "end" else int(last if dash else first)
        ranges.append((int(first), end))
    return ranges


def invalid(option: str, detail: str) -> errors.InvalidOptions:
    """The error for one option that cannot be."""
    return errors.InvalidOptions(
        f"{option}: {detail}", errors=[{"pointer": f"#/{option}", "detail": detail}]
    )


def parse(form: Mapping[str, Sequence[str]]) -> JobOptions:
    """Options from the fields of a form, each with the values it was sent with."""
    values: dict[str, Any] = {}
    for name, sent in form.items():
        if name == "languages":
            values[name] = [part for value in sent for part in re.split(r"[+,\s]+", value) if part]
        elif len(sent) > 1:
            raise invalid(name, "was sent more than once")
        elif sent[0] != "" or name not in JobOptions.model_fields:
            values[name] = sent[0]  # an empty field of a form means: not chosen
    return from_dict(values)


def from_dict(values: Mapping[str, Any]) -> JobOptions:
    """Options from a mapping, such as a job's record."""
    try:
        return JobOptions.model_validate(_numbers(values))
    except ValidationError as error:
        rows = [
            {
                "pointer": "#/" + "/".join(str(part) for part in row["loc"]),
                "detail": "there is no such option"
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
    """Digits as numbers where the choice is among numbers; pydantic converts no literals."""
    choices = ("optimize", "page_segmentation")
    return {
        name: int(value)
        if name in choices and isinstance(value, str) and re.fullmatch(r"[0-9]{1,2}", value)
        else value
        for name, value in values.items()
    }
