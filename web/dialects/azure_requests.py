"""What a client of Azure Document Intelligence asks for: options and the document."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, cast, get_args

from pydantic import Field

from ocr_tasks import errors, options, settings
from ocr_tasks.formats import language
from ocr_tasks.jobs import worker_registry
from ocr_tasks.security.fetch import Fetcher
from ocr_tasks.storage import store
from ocr_tasks.uploads import receive
from web.dialects import base64_json
from web.dialects.azure_result import API_VERSION, MODEL, StringIndex
from web.http import streaming
from web.http.schemas import Query

#: Features that change nothing, as pages are read in the resolution that they have, or that we
#: know something of; the others are refused.
_FEATURES = {"ocrHighResolution", "languages"}

#: Of these the second is told as the first.
_FORMATS = ("text", "markdown")

_BINARY = re.compile(r"application/(octet-stream|pdf)|image/[a-z0-9.+-]+")

#: Where what was asked for is kept in the folder of the job.
_FILE = "analysis.json"


class VersionQuery(Query):
    # Missing ones are refused by hand: the body has to be read away before.
    api_version: str | None = Field(None, alias="api-version", description=f"`{API_VERSION}`.")


class AnalyzeQuery(VersionQuery):
    pages: str | None = Field(None, description="Such as 1-3,5. All, if left out.")
    locale: str | None = Field(
        None,
        description="Language of the text, such as de-AT; one that is not installed is not looked "
        "at.",
    )
    string_index_type: str | None = Field(
        None,
        alias="stringIndexType",
        description="What offsets count: textElements, unicodeCodePoint or utf16CodeUnit.",
    )
    output_content_format: str | None = Field(
        None, alias="outputContentFormat", description="text; markdown gives text as well."
    )
    features: str | None = Field(
        None, description="languages, ocrHighResolution, joined by commas."
    )
    output: str | None = Field(None, description="pdf: make the searchable PDF.")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the answer to an analysis needs to know of its request."""

    index: StringIndex
    pdf: bool
    languages: bool

    @classmethod
    def of(cls, query: AnalyzeQuery) -> Asked:
        """What is asked for."""
        index = cast("StringIndex", query.string_index_type or "textElements")
        outputs, features = _words(query.output), _words(query.features)
        _check("stringIndexType", [index], get_args(StringIndex))
        _check("outputContentFormat", [query.output_content_format or "text"], _FORMATS)
        _check("output", outputs, {"pdf"})
        _check("features", features, _FEATURES)
        return cls(index, "pdf" in outputs, "languages" in features)

    @classmethod
    def read(cls, job_id: str) -> Asked:
        """What was asked for with a job."""
        stored = store.get().read(job_id, _FILE)
        if stored is None:
            raise errors.JobNotFound("The job was not sent by this interface")
        return cls(**json.loads(stored))

    def keep(self, job_id: str) -> None:
        """Keeps it with a job."""
        store.get().write(job_id, _FILE, json.dumps(asdict(self)).encode())


def check_version(query: VersionQuery) -> None:
    """Makes sure that the client speaks what is spoken here."""
    if not query.api_version:
        raise errors.MissingParameter("api-version is required")
    _check("api-version", [query.api_version], {API_VERSION})


def check_model(model_id: str) -> None:
    """Makes sure that there is such a model."""
    if model_id != MODEL:
        raise errors.ModelNotFound(f"There is no model {model_id!r:.80}, only {MODEL}")


def _words(text: str | None) -> list[str]:
    return [word for word in (part.strip() for part in (text or "").split(",")) if word]


def _check(name: str, words: Iterable[str], known: Collection[str]) -> None:
    for word in words:
        if word not in known:
            wanted = " or ".join(sorted(known))
            raise errors.InvalidParameter(f"{name} is {word!r:.80}; it can be {wanted}")


def job_options(query: AnalyzeQuery) -> options.JobOptions:
    """How the document is to be read.

    As Azure does: pages are read however they lie, and what is made of a signed document is no
    matter of its signature, as the client keeps what it sent.
    """
    wanted: dict[str, Any] = {"rotate_pages": True, "allow_signed": True}
    if query.pages:
        wanted["pages"] = query.pages
    code = language.tesseract(query.locale, worker_registry.languages()) if query.locale else None
    if code:
        wanted["languages"] = [code]
    return options.from_dict(wanted)


def take(upload: streaming.UploadRequest) -> receive.Incoming:
    """Takes the document in: the body, or what its JSON holds or names."""
    if upload.mimetype == "application/json":
        return streaming.read_body(upload, receive.documents(), _document)
    if _BINARY.fullmatch(upload.mimetype):
        return streaming.read_body(upload, receive.documents())
    raise errors.UnsupportedMediaType(f"Content-Type is {upload.mimetype!r:.80}")


def _document(body: Iterable[bytes]) -> Iterator[bytes]:
    """The document in `base64Source` of a body, or at its `urlSource`."""
    reader = base64_json.Reader("base64Source")
    try:
        yield from reader.read(body)
    except base64_json.NotBase64 as error:
        raise errors.InvalidParameter(f"base64Source is not base64: {error}") from error
    except ValueError as error:
        raise errors.MalformedRequest(str(error)) from error
    url = reader.rest.get("urlSource")
    if reader.has_file and url is None:
        return
    if reader.has_file:
        raise errors.InvalidParameter("give either base64Source or urlSource, not both")
    if url is None:
        raise errors.MissingParameter("base64Source or urlSource is required")
    if not isinstance(url, str):
        raise errors.InvalidParameter("urlSource is not a string")
    yield from _fetched(url)


def _fetched(url: str) -> Iterator[bytes]:
    config = settings.get()
    failed, too_large = errors.SourceNotFetched, errors.UploadTooLarge
    fetcher = Fetcher(config.fetch_seconds, config.max_upload_bytes, failed, too_large)
    try:
        with fetcher.open(url) as (_, pieces):
            yield from pieces
    finally:
        fetcher.close()
