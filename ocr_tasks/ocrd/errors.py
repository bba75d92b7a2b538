"""The errors of OCR-D's Web API; see `ocr_tasks.errors`."""

from __future__ import annotations

from ocr_tasks.errors import JobError, RequestError, UploadError


class WorkspaceInvalid(UploadError):
    code = "workspace_invalid"
    title = "The workspace is invalid"
    advice = (
        "Upload an OCRD-ZIP with a METS file and all files that it references. Create it with "
        "`ocrd zip bag` and check it with `ocrd zip validate`."
    )


class WorkspaceNotFound(RequestError):
    code = "workspace_not_found"
    title = "The workspace does not exist"
    advice = "Check the workspace id. A METS file must be in a folder of OCR_OCRD_FOLDERS."


class WorkspaceDeleted(RequestError):
    code = "workspace_deleted"
    title = "The workspace was deleted"
    advice = "Upload it again."


class WorkspaceBusy(RequestError):
    code = "workspace_busy"
    title = "The workspace is in use"
    advice = "Wait until its jobs have ended, or cancel them."


class WorkspaceDownloadFailed(RequestError):
    code = "mets_not_fetched"
    title = "The workspace could not be downloaded"
    advice = (
        "Use public http(s) URLs for the METS file and the files that it references. An "
        "administrator can allow private networks with OCR_CALLBACK_NETWORKS."
    )


class PageIdsInvalid(RequestError):
    code = "page_ids_invalid"
    title = "The workspace has no such pages"
    advice = (
        "Use comma-separated page ids, ranges (PHYS_0001..PHYS_0009) or a regular expression "
        "(//REGEX)."
    )


class FileGroupUnknown(RequestError):
    code = "file_group_unknown"
    title = "The file group does not exist"
    advice = "Use a file group of the METS file or the output file group of an earlier job."


class ProcessorNotFound(RequestError):
    code = "processor_not_found"
    title = "The processor is not known"
    advice = "Choose a processor that a running worker offers (`ocr-tasks ocrd processors`)."


class ProcessorUnavailable(RequestError):
    code = "processor_unavailable"
    title = "A requested processor is not available"
    advice = "Choose a processor that a running worker offers (`ocr-tasks ocrd processors`)."


class ParametersInvalid(RequestError):
    code = "parameters_invalid"
    title = "The processor parameters are invalid"
    advice = "See the description of the processor (`ocr-tasks ocrd processor NAME`)."


class ProcessingInvalid(RequestError):
    code = "processing_invalid"
    title = "The processing request is invalid"
    advice = "See the API reference (/docs on the server)."


class ProcessingNotFound(RequestError):
    code = "processing_not_found"
    title = "The processing job does not exist"
    advice = "Use the id from the response to the run request."


class WorkflowInvalid(RequestError):
    code = "workflow_invalid"
    title = "The workflow is invalid"
    advice = (
        "Write one processor per line, as for `ocrd process`, e.g. dummy -I OCR-D-IMG -O "
        "OCR-D-COPY."
    )


class WorkflowNotFound(RequestError):
    code = "workflow_not_found"
    title = "The workflow does not exist"
    advice = "Use the id from the response to its upload."


class WorkflowExists(RequestError):
    code = "workflow_exists"
    title = "The workflow already exists"
    advice = "Use the id of the existing workflow."


class NextflowUnavailable(RequestError):
    code = "nextflow_unavailable"
    title = "No worker can run Nextflow scripts"
    advice = (
        "Write the workflow as for `ocrd process`, one processor per line, e.g. dummy -I "
        "OCR-D-IMG -O OCR-D-COPY."
    )


class ProcessorFailed(JobError):
    code = "processor_failed"
    title = "The processor failed"
    advice = "See the log of the job."
    retryable = True


class DependencyFailed(JobError):
    code = "dependency_failed"
    title = "A required job did not succeed"
    advice = "See the log of that job."
