"""Requests of Azure Document Intelligence clients: options and the document."""

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

#: Supported features; others are rejected. `ocrHighResolution` has no effect: OCR always uses the
#: full resolution.
_FEATURES = {"ocrHighResolution", "languages"}

#: `markdown` is accepted, but the content is plain text.
_FORMATS = ("text", "markdown")

_BINARY = re.compile(r"application/(octet-stream|pdf)|image/[a-z0-9.+-]+")

#: File in the job's folder with the parameters of the request.
_FILE = "analysis.json"


class VersionQuery(Query):
    # Not required here: `check_version` rejects a missing one after the body has been received.
    api_version: str | None = Field(None, alias="api-version", description=f"`{API_VERSION}`.")


class AnalyzeQuery(VersionQuery):
    pages: str | None = Field(None, description="Pages, e.g. `1-3,5`. Default: all.")
    locale: str | None = Field(
        None,
        description="Language of the text, e.g. `de-AT`. Ignored if it is not installed.",
    )
    string_index_type: str | None = Field(
        None,
        alias="stringIndexType",
        description="Unit of offsets: textElements, unicodeCodePoint or utf16CodeUnit.",
    )
    output_content_format: str | None = Field(
        None, alias="outputContentFormat", description="`text`; `markdown` returns text, too."
    )
    features: str | None = Field(
        None, description="`languages` and `ocrHighResolution`, comma-separated."
    )
    output: str | None = Field(None, description="`pdf`: also create the searchable PDF.")


@dataclass(frozen=True, slots=True)
class ResultOptions:
    """Parameters of a request that affect the format of its result."""

    index: StringIndex
    pdf: bool
    languages: bool

    @classmethod
    def of(cls, query: AnalyzeQuery) -> ResultOptions:
        """Checks and converts the parameters; raises `InvalidParameter`."""
        index = cast("StringIndex", query.string_index_type or "textElements")
        outputs, features = _words(query.output), _words(query.features)
        _check("stringIndexType", [index], get_args(StringIndex))
        _check("outputContentFormat", [query.output_content_format or "text"], _FORMATS)
        _check("output", outputs, {"pdf"})
        _check("features", features, _FEATURES)
        return cls(index, "pdf" in outputs, "languages" in features)

    @classmethod
    def read(cls, job_id: str) -> ResultOptions:
        """Loads the parameters of a job; raises `JobNotFound` if another interface created it."""
        stored = store.get().read(job_id, _FILE)
        if stored is None:
            raise errors.JobNotFound("The job was not submitted with this API")
        return cls(**json.loads(stored))

    def save(self, job_id: str) -> None:
        """Stores the parameters in the job's folder."""
        store.get().write(job_id, _FILE, json.dumps(asdict(self)).encode())


def check_version(query: VersionQuery) -> None:
    """Checks that the request uses the supported api-version."""
    if not query.api_version:
        raise errors.MissingParameter("api-version is required")
    _check("api-version", [query.api_version], {API_VERSION})


def check_model(model_id: str) -> None:
    """Checks that the model exists."""
    if model_id != MODEL:
        raise errors.ModelNotFound(
            f"The model {model_id!r:.80} does not exist; the only model is {MODEL}"
        )


def _words(text: str | None) -> list[str]:
    return [word for word in (part.strip() for part in (text or "").split(",")) if word]


def _check(name: str, words: Iterable[str], known: Collection[str]) -> None:
    for word in words:
        if word not in known:
            choices = " or ".join(sorted(known))
            raise errors.InvalidParameter(f"{name} is {word!r:.80}; it must be {choices}")


def job_options(query: AnalyzeQuery) -> options.JobOptions:
    """Returns the job options for a request.

    As with Azure, pages are rotated upright and signed documents are accepted: the client keeps the
    original with its signature.
    """
    chosen: dict[str, Any] = {"rotate_pages": True, "allow_signed": True}
    if query.pages:
        chosen["pages"] = query.pages
    code = language.tesseract(query.locale, worker_registry.languages()) if query.locale else None
    if code:
        chosen["languages"] = [code]
    return options.from_dict(chosen)


def receive_document(upload: streaming.UploadRequest) -> receive.Upload:
    """Receives the document: the body itself, or the content or URL in its JSON."""
    if upload.mimetype == "application/json":
        return streaming.read_body(upload, receive.documents(), _document)
    if _BINARY.fullmatch(upload.mimetype):
        return streaming.read_body(upload, receive.documents())
    raise errors.UnsupportedMediaType(f"The Content-Type {upload.mimetype!r:.80} is not supported")


def _document(body: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the document from `base64Source` of a JSON body, or downloaded from `urlSource`."""
    reader = base64_json.Reader("base64Source")
    try:
        yield from reader.read(body)
    except base64_json.NotBase64 as error:
        raise errors.InvalidParameter(f"base64Source is not valid Base64: {error}") from error
    except ValueError as error:
        raise errors.MalformedRequest(str(error)) from error
    url = reader.rest.get("urlSource")
    if reader.has_file and url is None:
        return
    if reader.has_file:
        raise errors.InvalidParameter("Send either base64Source or urlSource, not both")
    if url is None:
        raise errors.MissingParameter("base64Source or urlSource is required")
    if not isinstance(url, str):
        raise errors.InvalidParameter("urlSource is not a string")
    yield from _fetched(url)


def _fetched(url: str) -> Iterator[bytes]:
    config = settings.get()
    failed, too_large = errors.SourceDownloadFailed, errors.UploadTooLarge
    fetcher = Fetcher(config.fetch_seconds, config.max_upload_bytes, failed, too_large)
    try:
        with fetcher.open(url) as (_, chunks):
            yield from chunks
    finally:
        fetcher.close()
