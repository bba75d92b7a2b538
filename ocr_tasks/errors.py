"""All errors of the service. Each has a code whose meaning never changes.

    OcrTasksError
    ├── RequestError            an error in the client's request
    │   ├── UploadError         … in its files
    │   ├── OptionsError        … in its options
    │   └── StateError          … a conflict with the state of the job
    ├── ServiceError            an error or a lack of capacity of the service; retrying may help
    └── JobError                the reason why a job failed; stored with the job
        └── PageError           the reason why OCR failed on a page

Errors are converted at the edges only: `worker.tasks` stores a `JobError` with its job,
`web.http.problems` returns a problem document, `cli` exits with an exit code.
"""

from __future__ import annotations

from typing import Any, ClassVar


class OcrTasksError(Exception):
    """The base class of the service's errors.

    `code` identifies the error for programs, `title` describes the kind of error, `advice` says
    what to do about it. `detail`, the exception's message, describes this occurrence; it defaults
    to the title.
    """

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    advice: ClassVar[str] = (
        "Try again. If the error persists, report it to the administrator, who finds the cause in "
        "the server log."
    )
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str = "", **extra: Any) -> None:
        """`extra`: additional fields of the problem document, e.g. `limit` or `errors`."""
        super().__init__(detail or self.title)
        self.extra = extra

    @property
    def detail(self) -> str:
        return str(self.args[0])


class RequestError(OcrTasksError):
    """An error that the client has to correct."""


class UploadError(RequestError):
    """An error in an uploaded file."""


class OptionsError(RequestError):
    """An error in an option or parameter of the request."""


class StateError(RequestError):
    """A conflict between the request and the state of the job."""


class ServiceError(OcrTasksError):
    """An error or a lack of capacity of the service."""

    retryable = True

    def __init__(self, detail: str = "", retry_after: int = 10, **extra: Any) -> None:
        """`retry_after`: seconds after which the client should try again."""
        super().__init__(detail, **extra)
        self.retry_after = retry_after


class SettingsError(Exception):
    """An invalid setting. The message names the variable and the reason.

    Only administrators see it, so it has no code.
    """


# Requests


class MalformedRequest(RequestError):
    code = "malformed_request"
    title = "The request is malformed"
    advice = "See the API reference (/docs on the server)."


class NotFound(RequestError):
    code = "not_found"
    title = "This URL does not exist"
    advice = "See the API reference (/docs on the server)."


class MethodNotAllowed(RequestError):
    code = "method_not_allowed"
    title = "HTTP method not allowed"
    advice = "Use one of the methods in the Allow header."


class TooSlow(RequestError):
    code = "too_slow"
    title = "The request arrived too slowly"
    advice = "Send it again over a faster connection."
    retryable = True


class UnsupportedEncoding(RequestError):
    code = "unsupported_encoding"
    title = "The request body is compressed"
    advice = "Send the body without Content-Encoding."


class MissingParameter(OptionsError):
    code = "missing_parameter"
    title = "A required parameter is missing"
    advice = "See docs/how-to/paperless.md for the parameters of the Azure-compatible API."


class InvalidParameter(OptionsError):
    code = "invalid_parameter"
    title = "A parameter is invalid"
    advice = "See docs/how-to/paperless.md for the parameters of the Azure-compatible API."


class UnsupportedMediaType(RequestError):
    code = "unsupported_media_type"
    title = "Unsupported Content-Type"
    advice = "Send application/json, or the document itself as application/octet-stream."


class ModelNotFound(RequestError):
    code = "model_not_found"
    title = "The model does not exist"
    advice = "Use prebuilt-read, the only model that is available."


class SourceDownloadFailed(RequestError):
    code = "source_not_fetched"
    title = "The document could not be downloaded"
    advice = (
        "Use a public http(s) URL, or upload the document. An administrator can allow private "
        "networks with OCR_CALLBACK_NETWORKS."
    )


class NotAuthenticated(RequestError):
    code = "not_authenticated"
    title = "A valid token is required"
    advice = (
        "Send it as `Authorization: Bearer TOKEN` (command line: OCR_TOKEN), or sign in on the web "
        "page. An administrator creates tokens with `ocr-tasks tokens create`."
    )


class ScopeMissing(RequestError):
    code = "scope_missing"
    title = "The token lacks a required scope"
    advice = "Use a token that has the scope, or ask the administrator for one."


class AddressRefused(RequestError):
    code = "address_refused"
    title = "Client IP address not allowed"
    advice = "Ask the administrator to add the network to OCR_ALLOWED_NETWORKS."


class HostRefused(RequestError):
    code = "host_refused"
    title = "Unknown host name"
    advice = (
        "Use another name of the server, or ask the administrator to add this one to OCR_HOSTS."
    )


class CrossSite(RequestError):
    code = "cross_site"
    title = "Cross-site request refused"
    advice = (
        "Send the request from this server's own page, or with `Authorization: Bearer TOKEN`; a "
        "reverse proxy must pass on the Host header. An administrator can allow a site with "
        "OCR_CORS_ORIGINS."
    )


class RangeNotSatisfiable(RequestError):
    code = "range_not_satisfiable"
    title = "The requested range is not satisfiable"
    advice = "Request bytes below the size in Content-Range, or omit the Range header."


class MissingFile(UploadError):
    code = "missing_file"
    title = "The request contains no file"
    advice = "Send one or more files in form fields named `file`, or ids of uploads in `upload`."


class TooManyFiles(UploadError):
    code = "too_many_files"
    title = "The request has too many parts"
    advice = "Send fewer files in one request."


class UploadTooLarge(UploadError):
    code = "upload_too_large"
    title = "The upload is too large"
    advice = (
        "Split the document, or ask the administrator to raise OCR_MAX_UPLOAD_BYTES (for "
        "workspaces OCR_OCRD_MAX_BYTES)."
    )


class UploadNotFound(RequestError):
    code = "upload_not_found"
    title = "The upload does not exist"
    advice = "Start a new upload. Unused uploads are deleted after OCR_KEEP_UPLOADS_SECONDS."


class UploadExpired(RequestError):
    code = "upload_expired"
    title = "The upload has expired"
    advice = (
        "Start a new upload. Upload-Expires says how long an upload is kept "
        "(OCR_KEEP_UPLOADS_SECONDS)."
    )


class UploadAlreadyUsed(RequestError):
    code = "upload_taken"
    title = "The upload is already a job"
    advice = "Use the job whose id is in `job`; to process the file again, upload it again."


class UploadUnfinished(RequestError):
    code = "upload_unfinished"
    title = "The upload is incomplete"
    advice = "Send the remaining bytes, beginning at `offset`, then try again."


class OffsetMismatch(RequestError):
    code = "offset_mismatch"
    title = "The upload offset does not match"
    advice = "Query the offset with HEAD and resume from there."


class ChecksumMismatch(RequestError):
    code = "checksum_mismatch"
    title = "The checksum does not match"
    advice = "Send the chunk again; none of it was stored."


class ContentTypeWrong(RequestError):
    code = "content_type_wrong"
    title = "Wrong Content-Type"
    advice = "Send the chunks of an upload as Content-Type: application/offset+octet-stream."


class TusVersionUnsupported(RequestError):
    code = "tus_version_unsupported"
    title = "Unsupported version of the tus protocol"
    advice = "Send the header `Tus-Resumable: 1.0.0`."


class EmptyFile(UploadError):
    code = "empty_file"
    title = "The file is empty"
    advice = "Check that the file was written completely before it was uploaded."


class UnsupportedType(UploadError):
    code = "unsupported_type"
    title = "Unsupported file type"
    advice = "Upload a PDF, JPEG, PNG, TIFF, WebP, GIF, BMP, HEIC, AVIF or JPEG 2000 file."


class PdfInvalid(UploadError):
    code = "pdf_invalid"
    title = "The PDF is damaged beyond repair"
    advice = "Open it in a PDF program, save it as a new file and upload that."


class PdfEncrypted(UploadError):
    code = "pdf_encrypted"
    title = "The PDF is password-protected"
    advice = "Remove the password and upload the PDF again."


class PdfSigned(UploadError):
    code = "pdf_signed"
    title = "The PDF has a digital signature"
    advice = "OCR invalidates the signature. If that is acceptable, set allow_signed=true."


class PdfDynamicForm(UploadError):
    code = "pdf_dynamic_form"
    title = "Dynamic XFA forms are not supported"
    advice = (
        "Only Adobe's programs can display the PDF: print it to a new PDF there and upload that."
    )


class NoPages(UploadError):
    code = "no_pages"
    title = "The document has no pages"
    advice = "Open the file in a viewer to check it."


class TooManyPages(UploadError):
    code = "too_many_pages"
    title = "The document has too many pages"
    advice = "Split the document, or ask the administrator to raise OCR_MAX_PAGES."


class PageTooLarge(UploadError):
    code = "page_too_large"
    title = "A page is too large"
    advice = "Scale the page down, or ask the administrator to raise OCR_MAX_PAGE_INCHES."


class ImageTooLarge(UploadError):
    code = "image_too_large"
    title = "An image has too many pixels"
    advice = "Scale the image down, or ask the administrator to raise OCR_MAX_IMAGE_MEGAPIXELS."


class ImageInvalid(UploadError):
    code = "image_invalid"
    title = "The image is damaged"
    advice = "Open it in an image program, save it as a new file and upload that."


class TiffCompressionUnsupported(UploadError):
    code = "tiff_compression_unsupported"
    title = "The compression of the TIFF file is not supported"
    advice = "Save the image with another compression, e.g. LZW, and upload that."


class CheckFailed(UploadError):
    code = "check_failed"
    title = "The file check exceeded its limits"
    advice = (
        "The file needs too much time, memory or disk space to check. Save it in a simpler form "
        "and upload that."
    )


class InvalidOptions(OptionsError):
    code = "invalid_options"
    title = "The options are invalid"
    advice = "The API reference (/docs on the server) lists all options and their values."


class LanguageUnavailable(OptionsError):
    code = "language_unavailable"
    title = "A requested language is not installed"
    advice = "Choose an installed language, or ask the administrator to install the missing one."


class CallbackRefused(RequestError):
    code = "callback_refused"
    title = "The webhook URL is not allowed"
    advice = (
        "Use a public http(s) URL. An administrator can allow private networks with "
        "OCR_CALLBACK_NETWORKS."
    )


# Conflicts with the state of a job


class NoWebhook(StateError):
    code = "no_callback"
    title = "There is no webhook to send"
    advice = "Submit the document with callback_url, and wait until the job has ended."


class IdempotencyMismatch(RequestError):
    code = "idempotency_mismatch"
    title = "The Idempotency-Key was already used"
    advice = "Use a new key for each request; reuse a key only to repeat the same request."


class JobNotFound(StateError):
    code = "job_not_found"
    title = "The job does not exist"
    advice = "Check the job id that the server returned when the document was submitted."


class JobDeleted(StateError):
    code = "job_deleted"
    title = "The job was deleted"
    advice = "Its files were deleted with it. Submit the document again if you need it."


class JobNotFinished(StateError):
    code = "job_not_finished"
    title = "The job has no result yet"
    advice = "Wait until its state is succeeded."
    retryable = True


class JobWithoutResult(StateError):
    code = "job_without_result"
    title = "The job ended without a result"
    advice = "See the job's error, or retry the job."


class JobEnded(StateError):
    code = "job_ended"
    title = "The job has already ended"
    advice = "Only waiting and running jobs can be cancelled."


class JobNotRetryable(StateError):
    code = "job_not_retryable"
    title = "The job cannot be retried"
    advice = (
        "Only failed and cancelled jobs, and jobs with failed pages, can be retried. Submit the "
        "document again to process it with other options."
    )


class ArtifactNotFound(StateError):
    code = "artifact_not_found"
    title = "The job has no such result"
    advice = "Its `artifacts` list the available results."


class ResultGone(StateError):
    code = "result_gone"
    title = "The result is no longer stored"
    advice = "Retry the job, or submit the document again."


class PageNotFound(StateError):
    code = "page_not_found"
    title = "The document has no such page"
    advice = "Page numbers run from 1 to the job's `input.pages`."


class PageNotReady(StateError):
    code = "page_not_ready"
    title = "The page is not done yet"
    advice = "Try again when the job has progressed further."
    retryable = True


# The service


class Internal(ServiceError):
    code = "internal"
    retryable = False


class ResultCorrupt(ServiceError):
    code = "result_corrupt"
    title = "The stored result is corrupt"
    advice = "Submit the document again, and inform the administrator: the disk may be failing."
    retryable = False


class QueueFull(ServiceError):
    code = "queue_full"
    title = "The job queue is full"
    advice = "Try again after the time in Retry-After."


class LimitReached(ServiceError):
    code = "limit_reached"
    title = "A usage limit is reached"
    advice = "Try again after the time in Retry-After, or ask the administrator for a higher limit."

    def __init__(self, limit: str, most: int, retry_after: int) -> None:
        """`limit` is the name of the limit, e.g. `pages_day`; `most` is its value."""
        words = (
            limit.replace("_minute", " per minute").replace("_day", " per day").replace("_", " ")
        )
        detail = f"The limit of {most} {words} is reached"
        super().__init__(detail, retry_after, limit=limit, most=most)
        self.extra["retry_after"] = retry_after


class UploadBusy(ServiceError):
    code = "upload_busy"
    title = "Another request writes to this upload"
    advice = "Query the offset with HEAD and resume from there; send one chunk at a time."


class TooManyConnections(ServiceError):
    code = "too_many_waiting"
    title = "Too many clients are connected"
    advice = "Try again after the time in Retry-After; poll jobs instead of following them."


class ServerStopping(ServiceError):
    code = "server_stopping"
    title = "The server is shutting down"
    advice = "The job was cancelled. Submit the document again in a minute."


class QueueUnavailable(ServiceError):
    code = "queue_unavailable"
    title = "Redis cannot be reached"
    advice = "Try again after the time in Retry-After; nothing from this request was stored."


class RedisFull(QueueUnavailable):
    code = "job_store_full"
    title = "Redis is out of memory"
    advice = (
        "Try again later. The administrator must give Redis more memory or keep jobs for a "
        "shorter time."
    )


class StorageFull(ServiceError):
    code = "storage_full"
    title = "The storage is full"
    advice = "Try again later; the administrator must free disk space."


class StorageUnavailable(ServiceError):
    code = "storage_unavailable"
    title = "The storage is not available"
    advice = "Try again later; the administrator must check OCR_DATA_DIR and OCR_STORAGE_URL."


# Jobs


class JobError(OcrTasksError):
    """The reason why a job failed. Celery's result backend stores code, message and page."""

    page: int | None = None


class PageError(JobError):
    """The reason why OCR failed on a page."""


class JobCancelled(JobError):
    code = "job_cancelled"
    title = "The job was cancelled"
    advice = "Retry the job to run it after all."
    retryable = True


class JobTimeout(JobError):
    code = "job_timeout"
    title = "The job exceeded its time limit"
    advice = "Split the document, or ask the administrator to raise OCR_JOB_SECONDS."
    retryable = True


class PagesTooSlow(JobError):
    code = "job_pages_too_slow"
    title = "Many pages exceeded their time limit"
    advice = "Split the document, or ask the administrator to raise OCR_PAGE_SECONDS."
    retryable = True


class WorkerLost(JobError):
    code = "worker_lost"
    title = "The worker crashed repeatedly"
    advice = "The document may need more memory than a worker has; see the worker log."
    retryable = True


class AllPagesFailed(JobError):
    code = "all_pages_failed"
    title = "OCR failed on all pages"
    advice = "See failed_pages and the log for the reasons."
    retryable = True


class PageFailed(JobError):
    code = "page_failed"
    title = "OCR failed on a page"
    advice = "Set on_page_error=keep to get the other pages."
    retryable = True

    def __init__(self, detail: str = "", page: int | None = None, **extra: Any) -> None:
        """`page`: the page number, 1-based."""
        super().__init__(detail, **extra)
        self.page = page


class PageUnreadable(PageError):
    code = "page_unreadable"
    title = "OCR failed on this page"
    advice = "The page is kept without recognized text; see the log for the reason."
    retryable = True


class PageTimeout(PageError):
    code = "page_timeout"
    title = "The page exceeded its time limit"
    advice = (
        "The page is kept without recognized text. An administrator can raise OCR_PAGE_SECONDS."
    )
    retryable = True


class PageCrashed(PageError):
    code = "page_crashed"
    title = "OCR of the page crashed repeatedly"
    advice = "The page is kept without recognized text; see the worker log for the reason."
    retryable = True


class PriorText(JobError):
    code = "prior_text"
    title = "A page already has text"
    advice = (
        "Choose mode=skip to keep such pages, mode=redo to replace the text of an earlier OCR, or "
        "mode=force to rasterize all pages."
    )


class InputUnsupported(JobError):
    code = "input_unsupported"
    title = "OCRmyPDF cannot process this document"
    advice = "Save it again in a PDF program, or choose mode=force."


class ToolFailed(JobError):
    code = "tool_failed"
    title = "A program used by OCRmyPDF failed"
    advice = "See the log; retry the job, or choose other options."
    retryable = True


class ToolMissing(JobError):
    code = "tool_missing"
    title = "A program or language is missing"
    advice = "The administrator must install it on the workers."
    retryable = True


class OutputInvalid(JobError):
    code = "output_invalid"
    title = "The resulting PDF is invalid"
    advice = "Submit the document again with output_type=pdf or optimize=0."
    retryable = True


class JobStorageFull(JobError):
    code = "job_storage_full"
    title = "The storage was full"
    advice = "Retry the job after the administrator has freed disk space."
    retryable = True


class JobStorageError(JobError):
    code = "job_storage_error"
    title = "A storage error occurred"
    advice = "Retry the job; the administrator must check OCR_DATA_DIR."
    retryable = True


class JobFileTooLarge(JobError):
    code = "job_file_too_large"
    title = "A file exceeded the size limit"
    advice = "Split the document, or ask the administrator to raise OCR_WORKER_FILE_BYTES."


class JobOutOfMemory(JobError):
    code = "job_out_of_memory"
    title = "The worker ran out of memory"
    advice = "Submit fewer pages, or scale the images down."


class JobCrashed(JobError):
    code = "job_crashed"
    title = "The job failed unexpectedly"
    advice = "See the log. Retry the job once, then report the error."
    retryable = True


def _leaves(cls: type[OcrTasksError]) -> list[type[OcrTasksError]]:
    return [cls, *(leaf for child in cls.__subclasses__() for leaf in _leaves(child))]


def by_code() -> dict[str, type[OcrTasksError]]:
    """Returns the errors that have a code, by code. Base classes have none and are not raised.

    Errors of an extension are among them once its module `extension` is loaded.
    """
    with_code = (cls for cls in _leaves(OcrTasksError) if "code" in vars(cls))
    return {cls.code: cls for cls in sorted(with_code, key=lambda cls: cls.__module__)}
