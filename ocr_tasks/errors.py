"""Everything that can go wrong, each with a code that never changes its meaning.

    OcrTasksError
    ├── RequestError            the request is at fault
    │   ├── UploadError         … its files
    │   ├── OptionsError        … its options
    │   └── StateError          … what it asks for does not go with the job's state
    ├── ServiceError            we are at fault, or full; trying again later helps
    └── JobError                why a job failed; stored with the job
        └── PageError           … why a page could not be read

Errors are raised where they are known and translated at the edges only: `tasks` stores a `JobError`
with its job, `web.http.problems` makes a problem document, `cli` an exit code.
"""

from __future__ import annotations

from typing import Any, ClassVar


class OcrTasksError(Exception):
    """Base of all errors of ours.

    `code` is for programs, `title` says what happened in general, `advice` what to do about it, the
    exception's own text what happened in particular.
    """

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong inside the service"
    advice: ClassVar[str] = "Try again; if it happens again, send the log to the operator."
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str = "", **extra: Any) -> None:
        """`extra` are facts for the client, such as `limit` or `errors`."""
        super().__init__(detail or self.title)
        self.extra = extra

    @property
    def detail(self) -> str:
        return str(self.args[0])


class RequestError(OcrTasksError):
    """The client has to change something."""


class UploadError(RequestError):
    """A file of the request cannot be taken."""


class OptionsError(RequestError):
    """An option of the request cannot be taken."""


class StateError(RequestError):
    """What is asked for does not go with the state of the job."""


class ServiceError(OcrTasksError):
    """The service cannot do it at the moment."""

    retryable = True

    def __init__(self, detail: str = "", retry_after: int = 10, **extra: Any) -> None:
        """`retry_after`: seconds after which another try makes sense."""
        super().__init__(detail, **extra)
        self.retry_after = retry_after


class SettingsError(Exception):
    """A setting is wrong; the text names the variable and says what is wrong with it.

    Nobody but the operator sees it, so that it has no code.
    """


# Requests


class MalformedRequest(RequestError):
    code = "malformed_request"
    title = "The request cannot be understood"
    advice = "Send it as described at /docs."


class NotFound(RequestError):
    code = "not_found"
    title = "There is nothing at this address"
    advice = "See /docs for the addresses that exist."


class MethodNotAllowed(RequestError):
    code = "method_not_allowed"
    title = "This address does not know that method"
    advice = "See the Allow header for the methods it knows."


class TooSlow(RequestError):
    code = "too_slow"
    title = "The request came in too slowly, or not at all"
    advice = "Send it again, over a faster connection."
    retryable = True


class UnsupportedEncoding(RequestError):
    code = "unsupported_encoding"
    title = "The body of the request is compressed"
    advice = "Send it without Content-Encoding."


class MissingParameter(OptionsError):
    code = "missing_parameter"
    title = "A parameter that the request needs is missing"
    advice = "See docs/how-to/paperless.md for what Azure's interface takes."


class InvalidParameter(OptionsError):
    code = "invalid_parameter"
    title = "A parameter of the request is not valid"
    advice = "See docs/how-to/paperless.md for what Azure's interface takes."


class UnsupportedMediaType(RequestError):
    code = "unsupported_media_type"
    title = "The body of the request is of a type that this address does not take"
    advice = "Send application/json, or the document itself as application/octet-stream."


class ModelNotFound(RequestError):
    code = "model_not_found"
    title = "There is no such model"
    advice = "Use prebuilt-read: there is no other here."


class SourceNotFetched(RequestError):
    code = "source_not_fetched"
    title = "The document could not be fetched from its address"
    advice = (
        "Give an http(s) address on the internet, or send the document itself; an operator can "
        "allow networks of their own by OCR_CALLBACK_NETWORKS."
    )


class NotAuthenticated(RequestError):
    code = "not_authenticated"
    title = "A valid token is needed"
    advice = (
        "Send it as `Authorization: Bearer …`, or sign in on the web page. The operator makes "
        "tokens with `ocr-tasks tokens create`."
    )


class ScopeMissing(RequestError):
    code = "scope_missing"
    title = "The token may not do this"
    advice = "Use a token that has the scope, or ask the operator for one."


class AddressRefused(RequestError):
    code = "address_refused"
    title = "Clients at this address are not served"
    advice = "Ask the operator to add the network to OCR_ALLOWED_NETWORKS."


class HostRefused(RequestError):
    code = "host_refused"
    title = "This server is not called by that name"
    advice = "If it should be, the operator adds the name to OCR_HOSTS."


class CrossSite(RequestError):
    code = "cross_site"
    title = "The request comes from the page of another site"
    advice = (
        "Send it from this server's own page, or with `Authorization: Bearer …`. A proxy in front "
        "has to pass the Host header on. The operator can allow a site by OCR_CORS_ORIGINS."
    )


class RangeNotSatisfiable(RequestError):
    code = "range_not_satisfiable"
    title = "The range that was asked for is not in the file"
    advice = "Ask without a Range header, or for bytes below the size in Content-Range."


class MissingFile(UploadError):
    code = "missing_file"
    title = "The request has no file"
    advice = "Send one or more files in form fields named `file`, or ids of uploads in `upload`."


class TooManyFiles(UploadError):
    code = "too_many_files"
    title = "The request has too many parts"
    advice = "Send fewer files in one request."


class UploadTooLarge(UploadError):
    code = "upload_too_large"
    title = "The upload is larger than this service takes"
    advice = (
        "Split the document, or ask the operator to raise OCR_MAX_UPLOAD_BYTES; for workspaces "
        "OCR_OCRD_MAX_BYTES."
    )


class UploadNotFound(RequestError):
    code = "upload_not_found"
    title = "There is no such upload"
    advice = (
        "Begin a new one: POST /v1/uploads. Uploads are deleted some time after the last piece."
    )


class UploadExpired(RequestError):
    code = "upload_expired"
    title = "The time of the upload is over"
    advice = "Begin a new one. Upload-Expires says how long one is kept (OCR_KEEP_UPLOADS_SECONDS)."


class UploadTaken(RequestError):
    code = "upload_taken"
    title = "The upload has become a job already"
    advice = "Ask for the job in `job`; to read the file once more, send it anew."


class UploadUnfinished(RequestError):
    code = "upload_unfinished"
    title = "The upload is not complete"
    advice = "Send the rest by PATCH, from the byte in `offset` on, and ask again."


class OffsetMismatch(RequestError):
    code = "offset_mismatch"
    title = "The piece does not begin where the upload ends"
    advice = "Ask for the offset by HEAD, and go on from there."


class ChecksumMismatch(RequestError):
    code = "checksum_mismatch"
    title = "The piece does not have the checksum that was sent with it"
    advice = "Send it again; nothing of it was kept."


class ContentTypeWrong(RequestError):
    code = "content_type_wrong"
    title = "The body has another type than this address takes"
    advice = "Send pieces of an upload as Content-Type: application/offset+octet-stream."


class TusVersionUnsupported(RequestError):
    code = "tus_version_unsupported"
    title = "The request is not of the version of the tus protocol that is spoken here"
    advice = "Send the header `Tus-Resumable: 1.0.0`."


class EmptyFile(UploadError):
    code = "empty_file"
    title = "The file is empty"
    advice = "Check that it was written completely before it was sent."


class UnsupportedType(UploadError):
    code = "unsupported_type"
    title = "This is not a kind of file that can be read"
    advice = "Send a PDF, JPEG, PNG, TIFF, WebP, GIF, BMP, HEIC or JPEG 2000 file."


class PdfInvalid(UploadError):
    code = "pdf_invalid"
    title = "The PDF is damaged beyond repair"
    advice = "Open it in a PDF program, save it anew and send that."


class PdfEncrypted(UploadError):
    code = "pdf_encrypted"
    title = "The PDF is protected by a password"
    advice = "Remove the protection and send it again."


class PdfSigned(UploadError):
    code = "pdf_signed"
    title = "The PDF has a digital signature, which reading it would break"
    advice = "Send it with allow_signed=true if the signature may be lost."


class PdfDynamicForm(UploadError):
    code = "pdf_dynamic_form"
    title = "The PDF is a dynamic XFA form, which only Adobe's programs can show"
    advice = "Print it to a PDF there and send that."


class NoPages(UploadError):
    code = "no_pages"
    title = "The document has no pages"
    advice = "Check the file in a viewer."


class TooManyPages(UploadError):
    code = "too_many_pages"
    title = "The document has more pages than this service takes"
    advice = "Split the document, or ask the operator to raise OCR_MAX_PAGES."


class PageTooLarge(UploadError):
    code = "page_too_large"
    title = "A page measures more than this service takes"
    advice = "Scale the page down, or ask the operator to raise OCR_MAX_PAGE_INCHES."


class ImageTooLarge(UploadError):
    code = "image_too_large"
    title = "An image has more pixels than this service takes"
    advice = "Scale the image down, or ask the operator to raise OCR_MAX_IMAGE_MEGAPIXELS."


class ImageInvalid(UploadError):
    code = "image_invalid"
    title = "The image is damaged"
    advice = "Open it in an image program, save it anew and send that."


class CheckFailed(UploadError):
    code = "check_failed"
    title = "Looking into the file took more time, memory or room than is allowed"
    advice = "The file is very large or made to be slow. Save it anew in a simpler form."


class InvalidOptions(OptionsError):
    code = "invalid_options"
    title = "The options are not valid"
    advice = "GET /v1/options describes each option."


class LanguageUnavailable(OptionsError):
    code = "language_unavailable"
    title = "A language that was asked for is not installed"
    advice = "GET /v1/languages lists what is installed; an operator can install more."


class CallbackRefused(RequestError):
    code = "callback_refused"
    title = "That address cannot be called back"
    advice = "Give an http(s) address on the internet; an operator can allow networks of their own."


class TranscriptInvalid(RequestError):
    code = "transcript_invalid"
    title = "The transcript cannot be taken"
    advice = "Send it in a format that the lease asks for, of the page as it was handed out."


class TranscriptTooLarge(RequestError):
    code = "transcript_too_large"
    title = "The transcript is longer than that of a page can be"
    advice = "Send the text of this page alone."


class LeaseUnknown(RequestError):
    code = "lease_unknown"
    title = "There is no such lease, and no page of that name"
    advice = "Ask for a page, and answer with the lease that comes with it."


class LeaseLost(RequestError):
    code = "lease_lost"
    title = "The page is somebody else's by now, or its transcript is there already"
    advice = "Nothing is to be done; ask for another page."


class PageWithdrawn(RequestError):
    code = "page_withdrawn"
    title = "Nobody wants the page read any more"
    advice = "Nothing is to be done; ask for another page."


class DeviceDistrusted(RequestError):
    code = "device_distrusted"
    title = "What this device read differed too often from what others read"
    advice = (
        "Look at its Tesseract and languages; the operator lets it in again by "
        "DELETE /v1/swarm/devices/NAME."
    )


# OCR-D


class WorkspaceInvalid(UploadError):
    code = "workspace_invalid"
    title = "That is no workspace: an OCRD-ZIP with a METS file and all files that it names"
    advice = "Make it with `ocrd zip bag` and try it with `ocrd zip validate`."


class WorkspaceNotFound(RequestError):
    code = "workspace_not_found"
    title = "There is no such workspace"
    advice = "GET /ocrd/workspace lists them; a METS file must lie in a folder of OCR_OCRD_FOLDERS."


class WorkspaceDeleted(RequestError):
    code = "workspace_deleted"
    title = "The workspace was deleted"
    advice = "Upload it again."


class WorkspaceBusy(RequestError):
    code = "workspace_busy"
    title = "Jobs are working on the workspace, or wait for it"
    advice = "Wait for their end, or cancel them by DELETE /ocrd/processor/job/ID."


class MetsNotFetched(RequestError):
    code = "mets_not_fetched"
    title = "The METS file, or a file that it names, could not be fetched"
    advice = "Give an http(s) address on the internet; an operator can allow networks of their own."


class PageIdsInvalid(RequestError):
    code = "page_ids_invalid"
    title = "The workspace has no such pages"
    advice = "Give ids of pages, joined by commas, ranges as PHYS_0001..PHYS_0009, or //REGEX."


class FileGroupUnknown(RequestError):
    code = "file_group_unknown"
    title = "The workspace has no such file group, and no job before this one makes it"
    advice = "Choose one that the METS file names."


class ProcessorNotFound(RequestError):
    code = "processor_not_found"
    title = "No living worker offers such a processor"
    advice = "GET /ocrd/processor lists those that can be run."


class ProcessorUnavailable(RequestError):
    code = "processor_unavailable"
    title = "No living worker offers a processor that is asked for"
    advice = "GET /ocrd/processor lists those that can be run."


class ParametersInvalid(RequestError):
    code = "parameters_invalid"
    title = "The parameters do not fit the processor"
    advice = "GET /ocrd/processor/info/NAME describes them."


class ProcessingInvalid(RequestError):
    code = "processing_invalid"
    title = "The run that is asked for cannot be"
    advice = "See /docs for what it needs."


class ProcessingNotFound(RequestError):
    code = "processing_not_found"
    title = "There is no such job of a processor or workflow"
    advice = "Use the id that the run was answered with."


class WorkflowInvalid(RequestError):
    code = "workflow_invalid"
    title = "The workflow cannot be read"
    advice = "One processor a line, as for `ocrd process`: dummy -I OCR-D-IMG -O OCR-D-COPY."


class WorkflowNotFound(RequestError):
    code = "workflow_not_found"
    title = "There is no such workflow"
    advice = "Use the id that its upload was answered with."


class WorkflowExists(RequestError):
    code = "workflow_exists"
    title = "The same workflow is there already"
    advice = "Use the one that is there, by its id."


class NextflowUnavailable(RequestError):
    code = "nextflow_unavailable"
    title = "No living worker can run Nextflow scripts"
    advice = "Write it as for `ocrd process`, one processor a line: dummy -I OCR-D-IMG -O COPY."


# What does not go with the state of a job


class NoCallback(StateError):
    code = "no_callback"
    title = "There is nothing to tell: the job names no callback_url, or has not ended"
    advice = "Send callback_url with the document."


class IdempotencyMismatch(RequestError):
    code = "idempotency_mismatch"
    title = "The Idempotency-Key was used for another request"
    advice = "Use a new key for each request; the same one only to send the same request again."


class JobNotFound(StateError):
    code = "job_not_found"
    title = "There is no job with this id"
    advice = "Check the id; it is the last part of the Location of the answer to POST /v1/jobs."


class JobDeleted(StateError):
    code = "job_deleted"
    title = "The job has been deleted, and its files with it"
    advice = "Send the document again if you need it."


class JobNotFinished(StateError):
    code = "job_not_finished"
    title = "The job has no result yet"
    advice = "Poll the job until its state is succeeded."
    retryable = True


class JobWithoutResult(StateError):
    code = "job_without_result"
    title = "The job ended without a result"
    advice = "See its error; POST to its retry link to run it again."


class JobEnded(StateError):
    code = "job_ended"
    title = "The job has already ended"
    advice = "Nothing is left to cancel."


class JobNotRetryable(StateError):
    code = "job_not_retryable"
    title = "Only failed and cancelled jobs, and those with failed pages, can be run again"
    advice = "Send the document again if it should be read with other options."


class ArtifactNotFound(StateError):
    code = "artifact_not_found"
    title = "The job has no such result"
    advice = "Its `artifacts` list what it has."


class ResultGone(StateError):
    code = "result_gone"
    title = "The result is no longer on storage"
    advice = "POST to the job's retry link, or send the document again."


class PageNotFound(StateError):
    code = "page_not_found"
    title = "The document has no such page"
    advice = "Pages are counted from 1 to the job's `input.pages`."


class PageNotReady(StateError):
    code = "page_not_ready"
    title = "This page has not been read yet"
    advice = "Try again when the job is further."
    retryable = True


# The service


class Internal(ServiceError):
    code = "internal"
    retryable = False


class ResultCorrupt(ServiceError):
    code = "result_corrupt"
    title = "The result on storage is not what was made"
    advice = "Send the document again, and tell the operator: the disk may be failing."
    retryable = False


class QueueFull(ServiceError):
    code = "queue_full"
    title = "As many jobs are waiting as the service takes"
    advice = "Try again after the time in Retry-After."


class LimitReached(ServiceError):
    code = "limit_reached"
    title = "The limit of this token, or of this address, is reached"
    advice = "Try again after the time in Retry-After, or ask the operator for a higher limit."

    def __init__(self, limit: str, most: int, retry_after: int) -> None:
        """`limit` is its name, such as `pages_day`, and `most` what it allows."""
        words = limit.replace("_minute", " a minute").replace("_day", " a day").replace("_", " ")
        detail = f"No more than {most} {words}"
        super().__init__(detail, retry_after, limit=limit, most=most)
        self.extra["retry_after"] = retry_after


class TooManyLeases(ServiceError):
    code = "too_many_leases"
    title = "The device has as many pages as a device may have"
    advice = "Answer or release them first."


class UploadBusy(ServiceError):
    code = "upload_busy"
    title = "Another request is sending to the same upload"
    advice = "Ask for the offset by HEAD, and go on from there; send one piece at a time."


class TooManyWaiting(ServiceError):
    code = "too_many_waiting"
    title = "As many clients are following jobs, or sending files, as the server has room for"
    advice = "Try again after the time in Retry-After; poll a job instead of following it."


class ServerStopping(ServiceError):
    code = "server_stopping"
    title = "The server is being stopped, and the job was cancelled"
    advice = "Send the document again in a minute."


class QueueUnavailable(ServiceError):
    code = "queue_unavailable"
    title = "The job store (Redis) cannot be reached"
    advice = "Try again after the time in Retry-After; nothing of this request was kept."


class JobStoreFull(QueueUnavailable):
    code = "job_store_full"
    title = "The job store (Redis) has no memory left"
    advice = "Try again later; the operator has to give Redis more memory, or keep jobs for less."


class StorageFull(ServiceError):
    code = "storage_full"
    title = "The storage is full"
    advice = "Try again later; the operator has to make room."


class StorageUnavailable(ServiceError):
    code = "storage_unavailable"
    title = "The storage cannot be read or written"
    advice = "Try again later; the operator has to look at OCR_DATA_DIR and OCR_STORAGE_URL."


# Jobs


class JobError(OcrTasksError):
    """Why a job failed. Travels through Celery's result backend as `(code, message, page)`."""

    page: int | None = None


class PageError(JobError):
    """Why a page could not be read."""


class JobCancelled(JobError):
    code = "job_cancelled"
    title = "The job was cancelled"
    advice = "POST to its retry link to run it after all."
    retryable = True


class JobTimeout(JobError):
    code = "job_timeout"
    title = "The job took longer than a job may"
    advice = "Split the document, or ask the operator to raise OCR_JOB_SECONDS."
    retryable = True


class WorkerLost(JobError):
    code = "worker_lost"
    title = "The worker processes that read the document died, one after the other"
    advice = "The document may need more memory than a worker has; see the log of the workers."
    retryable = True


class AllPagesFailed(JobError):
    code = "all_pages_failed"
    title = "None of the pages could be read"
    advice = "See failed_pages and the log for the reasons."
    retryable = True


class PageFailed(JobError):
    code = "page_failed"
    title = "A page could not be read, and on_page_error=fail was asked for"
    advice = "Send it with on_page_error=keep to get the other pages."
    retryable = True

    def __init__(self, detail: str = "", page: int | None = None, **extra: Any) -> None:
        """`page` is counted from 1."""
        super().__init__(detail, **extra)
        self.page = page


class PageUnreadable(PageError):
    code = "page_unreadable"
    title = "The page could not be read"
    advice = "See the log; the page keeps its image."
    retryable = True


class PageTimeout(PageError):
    code = "page_timeout"
    title = "Reading the page took longer than a page may"
    advice = "The page keeps its image. An operator can raise OCR_PAGE_SECONDS."
    retryable = True


class PageCrashed(PageError):
    code = "page_crashed"
    title = "The processes that read the page died, one after the other"
    advice = "The page keeps its image. An operator finds out more in the log of the workers."
    retryable = True


class PriorText(JobError):
    code = "prior_text"
    title = "A page already has text, and mode=refuse was asked for"
    advice = "Choose mode=skip to keep such pages, redo to read them anew, force to rebuild them."


class InputUnsupported(JobError):
    code = "input_unsupported"
    title = "OCRmyPDF cannot work on this document"
    advice = "Save it anew in a PDF program, or choose mode=force."


class ToolFailed(JobError):
    code = "tool_failed"
    title = "A program that OCRmyPDF uses failed"
    advice = "See the log; retry, or choose other options."
    retryable = True


class ToolMissing(JobError):
    code = "tool_missing"
    title = "The worker lacks a program or a language that the job needs"
    advice = "The operator has to install it on the workers."
    retryable = True


class OutputInvalid(JobError):
    code = "output_invalid"
    title = "The PDF that was made does not pass its check"
    advice = "Retry with output_type=pdf or optimize=0."
    retryable = True


class JobStorageFull(JobError):
    code = "job_storage_full"
    title = "The storage was full while the job ran"
    advice = "Retry after the operator has made room."
    retryable = True


class JobStorageError(JobError):
    code = "job_storage_error"
    title = "The storage failed while the job ran"
    advice = "Retry; the operator has to look at OCR_DATA_DIR."
    retryable = True


class JobFileTooLarge(JobError):
    code = "job_file_too_large"
    title = "A file of the job grew larger than a file may"
    advice = "Split the document, or ask the operator to raise OCR_WORKER_FILE_BYTES."


class JobOutOfMemory(JobError):
    code = "job_out_of_memory"
    title = "The document needs more memory than the worker has"
    advice = "Retry with fewer pages, or scale its images down."


class ProcessorFailed(JobError):
    code = "processor_failed"
    title = "The processor failed"
    advice = "See the log of the job."
    retryable = True


class DependencyFailed(JobError):
    code = "dependency_failed"
    title = "A job that this one depends on did not succeed"
    advice = "See the log of that one."


class JobCrashed(JobError):
    code = "job_crashed"
    title = "The job failed for a reason nobody thought of"
    advice = "See the log; retry once, then report it."
    retryable = True


def _leaves(cls: type[OcrTasksError]) -> list[type[OcrTasksError]]:
    return [cls, *(leaf for child in cls.__subclasses__() for leaf in _leaves(child))]


def by_code() -> dict[str, type[OcrTasksError]]:
    """All errors by their code; groups, which are never raised, have none of their own."""
    return {cls.code: cls for cls in _leaves(OcrTasksError) if "code" in vars(cls)}
