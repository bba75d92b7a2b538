"""Translates exceptions of OCRmyPDF and the operating system into job errors."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from ocrmypdf import exceptions

from ocr_tasks import errors, settings
from ocr_tasks.sandbox import rlimits

#: The job error of each exception of OCRmyPDF. Subclasses come before their base classes.
_OCRMYPDF: list[tuple[type[BaseException] | tuple[type[BaseException], ...], type[errors.JobError]]]
_OCRMYPDF = [
    ((exceptions.PriorOcrFoundError, exceptions.TaggedPDFError), errors.PriorText),
    ((exceptions.MissingDependencyError, exceptions.TesseractConfigError), errors.ToolMissing),
    (exceptions.SubprocessOutputError, errors.ToolFailed),
    (exceptions.OutputFileAccessError, errors.JobStorageError),
    (exceptions.ExitCodeException, errors.InputUnsupported),
]

#: The job error of each `errno`.
_SYSTEM: dict[int | None, type[errors.JobError]] = {
    errno.ENOSPC: errors.JobStorageFull,
    errno.EDQUOT: errors.JobStorageFull,
    errno.EFBIG: errors.JobFileTooLarge,
    errno.ENOMEM: errors.JobOutOfMemory,
}


@contextlib.contextmanager
def as_job_errors() -> Iterator[None]:
    """Raises known exceptions of the `with` block as job errors. Other exceptions pass through."""
    try:
        yield
    except MemoryError as error:
        rlimits.mark_for_replacement("it ran out of memory")  # the memory may not have been freed
        raise errors.JobOutOfMemory() from error
    except RecursionError as error:
        raise errors.InputUnsupported("The PDF is nested too deeply") from error
    except Exception as error:
        job_error = _system_error(error)
        if job_error is errors.JobOutOfMemory:
            rlimits.mark_for_replacement("it ran out of memory")
        if job_error is errors.JobStorageError:
            # The folder that the sandbox allows may have been replaced, e.g. by a new mount.
            rlimits.mark_for_replacement("the storage failed")
        if job_error:
            raise job_error() from error
        for kinds, job_error in _OCRMYPDF:
            if isinstance(error, kinds):
                raise job_error(_plain(error)) from error
        raise


def of_document(error: Exception | None) -> errors.JobError:
    """Returns the job error for a document that no attempt could process."""
    if isinstance(error, errors.JobError):
        return error
    if isinstance(error, exceptions.ExitCodeException):
        kind = next(job_error for kinds, job_error in _OCRMYPDF if isinstance(error, kinds))
        return kind(_plain(error))
    return errors.InputUnsupported("The document is damaged and could not be repaired")


def _system_error(error: BaseException) -> type[errors.JobError] | None:
    """Returns the job error of an OSError, including one that is the cause of OCRmyPDF's error."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in _SYSTEM:
            return _SYSTEM[cause.errno]
    if os.strerror(errno.ENOSPC) in str(error):
        return errors.JobStorageFull
    # Pillow raises OSErrors without a number for images that it cannot decode.
    if isinstance(error, OSError) and error.errno is not None:
        return errors.JobStorageError
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an error, its cause, and so on. An error of pikepdf can be its own cause."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _plain(error: Exception) -> str:
    """Returns the first paragraph of OCRmyPDF's message, on one line, without paths."""
    first = str(error).strip().split("\n\n")[0]
    return " ".join(first.replace(str(settings.get().data_dir), "…").split())[:500]
