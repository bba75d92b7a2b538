"""Azure's own SDK with a real stack, and the requests that Paperless-ngx sends."""

from __future__ import annotations

import contextlib
import http.server
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.ai.documentintelligence import (
    DocumentIntelligenceAdministrationClient,
    DocumentIntelligenceClient,
)
from azure.ai.documentintelligence.aio import DocumentIntelligenceClient as AsyncClient
from azure.ai.documentintelligence.models import (
    AnalyzeDocumentRequest,
    AnalyzeOutputOption,
    AnalyzeResult,
    DocumentContentFormat,
    StringIndexType,
)
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
)

from tests import documents
from tests.acceptance.conftest import make_token
from tests.acceptance.test_main_job import text_of
from tests.conftest import SIX_PAGES, Stack, run_async
from tests.ocr_tasks.pipeline.test_document import full_page
from tests.web.dialects.test_azure_result import check_spans

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("closed")]

MODEL = "prebuilt-read"
GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "paperless.md"


@pytest.fixture(scope="module")
def stack(closed: Stack) -> Stack:
    return closed


@pytest.fixture(scope="module")
def key(stack: Stack) -> AzureKeyCredential:
    """Returns a key like the one that an administrator creates for such a client."""
    return AzureKeyCredential(make_token(stack, "submit", "read"))


@pytest.fixture(scope="module")
def client(stack: Stack, key: AzureKeyCredential) -> Iterator[DocumentIntelligenceClient]:
    # The SDK accepts plain HTTP if the credential is a key.
    with DocumentIntelligenceClient(stack.url, key) as made:
        yield made


def words_of(result: AnalyzeResult) -> list[str]:
    return [word.content for page in result.pages for word in page.words or ()]


def test_the_requests_of_paperless_ngx_succeed(
    stack: Stack, client: DocumentIntelligenceClient, key: AzureKeyCredential
) -> None:
    # src/paperless/parsers/remote.py of version 3.0.5: JSON with base64, output=pdf.
    poller = client.begin_analyze_document(
        model_id=MODEL,
        body=AnalyzeDocumentRequest(bytes_source=documents.scan("garden", "window")),
        output_content_format=DocumentContentFormat.TEXT,
        output=[AnalyzeOutputOption.PDF],
        content_type="application/json",
    )
    poller.wait()
    result_id = poller.details["operation_id"]
    result = poller.result()
    pdf = b"".join(client.get_analyze_result_pdf(model_id=MODEL, result_id=result_id))

    assert result.content == "garden\nwindow"
    assert text_of(pdf).split() == ["garden", "window"]
    with stack.client(headers={"Authorization": f"Bearer {key.key}"}) as ours:
        job = ours.get(f"/v1/jobs/{result_id}").json()
        assert (job["state"], job["input"]["pages"]) == ("succeeded", 2)


@pytest.fixture(scope="module")
def read(client: DocumentIntelligenceClient) -> AnalyzeResult:
    """Processes six pages, the fourth of which has its own text."""
    poller = client.begin_analyze_document(
        MODEL, SIX_PAGES.read_bytes(), pages="1,4", locale="en-GB", features=["languages"]
    )
    return poller.result()


def test_the_sdk_parses_the_result(read: AnalyzeResult) -> None:
    assert [page.page_number for page in read.pages] == [1, 4]
    check_spans(read, "textElements")
    for page in read.pages:
        assert page.unit == "inch"
        assert page.width
        assert page.height
        assert page.words
        for word in page.words:
            assert 0 <= word.confidence <= 1
            across, down = (word.polygon or [])[::2], (word.polygon or [])[1::2]
            assert len(across) == len(down) == 4
            assert 0 <= min(across) < max(across) <= page.width
            assert 0 <= min(down) < max(down) <= page.height
    assert [row.locale for row in read.languages or ()] == ["en"]


def test_existing_text_of_a_page_is_in_the_content(read: AnalyzeResult) -> None:
    own = text_of(SIX_PAGES.read_bytes()).split("\f")[3].split()
    (page,) = (page for page in read.pages if page.page_number == 4)

    assert len(own) > 10
    assert {word.content for word in page.words or ()} >= set(own)


def test_an_image_is_processed_with_spans_of_another_index_type(
    client: DocumentIntelligenceClient,
) -> None:
    index = StringIndexType.UTF16_CODE_UNIT
    image = documents.encoded(documents.picture("harbour 42"), "PNG", dpi=(150, 150))

    result = client.begin_analyze_document(
        MODEL, io.BytesIO(image), string_index_type=index
    ).result()

    assert (result.string_index_type, words_of(result)) == (index, ["harbour", "42"])
    check_spans(result, "utf16CodeUnit")
    (page,) = result.pages
    assert (page.unit, page.width, page.height) == ("pixel", 1240, 500)


@contextlib.contextmanager
def serving(content: bytes) -> Iterator[str]:
    """Returns the URL of a document on a server, which redirects to it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            there = self.path == "/scan.pdf"
            self.send_response(200 if there else 302)
            self.send_header("Location", "/scan.pdf")
            self.send_header("Content-Length", str(len(content) if there else 0))
            self.end_headers()
            self.wfile.write(content if there else b"")

        def log_message(self, *args: Any) -> None:
            """Logs nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/onward"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_document_is_downloaded_from_its_url(client: DocumentIntelligenceClient) -> None:
    with serving(documents.scan("orchard")) as address:
        request = AnalyzeDocumentRequest(url_source=address)

        result = client.begin_analyze_document(MODEL, request).result()

    assert result.content == "orchard"


def refused(client: DocumentIntelligenceClient, body: Any, model: str = MODEL) -> list[str]:
    """Returns the error codes that the SDK reports, from the outermost to that of this project."""
    with pytest.raises(HttpResponseError) as caught:
        client.begin_analyze_document(model, body)
    error = caught.value.error
    assert error
    codes, inner = [error.code or ""], error.innererror
    while inner:
        codes.append(inner["code"])
        inner = inner.get("innererror", {})
    return codes


def test_the_sdk_reports_why_a_request_is_refused(
    stack: Stack, client: DocumentIntelligenceClient
) -> None:
    large = bytes(int(stack.settings["OCR_MAX_UPLOAD_BYTES"]) + 1)
    too_large = ["InvalidRequest", "InvalidContentLength", "upload_too_large"]
    not_there = ["InvalidRequest", "ContentSourceNotAccessible", "source_not_fetched"]
    not_known = ["NotFound", "ModelNotFound", "model_not_found"]
    locked = ["InvalidRequest", "UnsupportedContent", "pdf_encrypted"]

    assert refused(client, b"nonsense") == ["InvalidRequest", "InvalidContent", "unsupported_type"]
    assert refused(client, documents.encrypted("secret")) == locked
    assert refused(client, large) == too_large
    assert refused(client, AnalyzeDocumentRequest(bytes_source=large)) == too_large
    assert refused(client, documents.scan("one"), "prebuilt-layout") == not_known
    with serving(large) as address:
        assert refused(client, AnalyzeDocumentRequest(url_source=address)) == too_large
    gone = AnalyzeDocumentRequest(url_source="http://127.0.0.1:9/scan.pdf")
    assert refused(client, gone) == not_there


def test_a_wrong_key_is_refused_also_with_a_large_document(stack: Stack) -> None:
    with (
        DocumentIntelligenceClient(stack.url, AzureKeyCredential("wrong")) as stranger,
        pytest.raises(ClientAuthenticationError) as caught,
    ):
        stranger.begin_analyze_document(MODEL, AnalyzeDocumentRequest(bytes_source=bytes(10**7)))

    assert caught.value.error
    assert caught.value.error.code == "401"


def test_the_example_of_the_guide_runs(
    stack: Stack,
    key: AzureKeyCredential,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scan.pdf").write_bytes(documents.scan("lantern"))
    code = GUIDE.read_text().partition("```python\n")[2].partition("```")[0]
    code = code.replace("http://127.0.0.1:8000", stack.url).replace("ocrt_…", key.key)

    names: dict[str, Any] = {}
    exec(code, names)  # it is defined in this project, and this is its test
    names["client"].close()

    assert capsys.readouterr().out == "lantern\n"
    assert text_of(Path("searchable.pdf").read_bytes()).split() == ["lantern"]


def test_a_rotated_page_is_described_as_it_was_uploaded(
    client: DocumentIntelligenceClient,
) -> None:
    image = full_page().rotate(-90, expand=True)

    result = client.begin_analyze_document(
        MODEL, documents.encoded(image, "PNG", dpi=(200, 200))
    ).result()

    assert result.content.count("went on to speak") == 10
    (page,) = result.pages
    assert (page.angle, page.width, page.height) == (90, *image.size)
    # It begins at the upper right and runs downwards.
    x1, y1, x2, y2 = ((page.words or [])[0].polygon or [])[:4]
    assert x1 == x2 > 500
    assert y1 < y2 < 400


def test_a_deleted_result_is_not_found(client: DocumentIntelligenceClient) -> None:
    poller = client.begin_analyze_document(MODEL, documents.scan("meadow"))
    poller.wait()
    result_id = poller.details["operation_id"]
    with pytest.raises(ResourceNotFoundError) as caught:
        client.get_analyze_result_pdf(MODEL, result_id)  # output=pdf was not requested
    assert caught.value.error
    assert caught.value.error.innererror["code"] == "OutputOptionNotFound"

    client.delete_analyze_result(MODEL, result_id)

    with pytest.raises(ResourceNotFoundError) as caught:
        client.get_analyze_result_pdf(MODEL, result_id)
    assert caught.value.error
    assert caught.value.error.innererror["code"] == "OperationNotFound"
    client.delete_analyze_result(MODEL, result_id)


def test_the_asynchronous_sdk_works_too(stack: Stack, key: AzureKeyCredential) -> None:
    async def analyze() -> AnalyzeResult:
        async with AsyncClient(stack.url, key) as client:
            poller = await client.begin_analyze_document(MODEL, documents.scan("bridge"))
            return await poller.result()

    assert run_async(analyze()).content == "bridge"


def test_the_sdk_for_models_lists_the_model(stack: Stack, key: AzureKeyCredential) -> None:
    with DocumentIntelligenceAdministrationClient(stack.url, key) as client:
        assert [model.model_id for model in client.list_models()] == [MODEL]
        assert client.get_model(MODEL).api_version == "2024-11-30"
        assert client.get_resource_details().custom_document_models.count == 0
