"""Turns what OCRmyPDF and the system raise while a document is read into errors of ours."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from ocrmypdf import exceptions

from ocr_tasks import errors, settings
from ocr_tasks.sandbox import rlimits

#: OCRmyPDF's exceptions, the more special ones first, and what they mean for a job.
_MEANINGS: list[tuple[type[BaseException] | tuple[type[BaseException], ...], type[errors.JobError]]]
_MEANINGS = [
    ((exceptions.PriorOcrFoundError, exceptions.TaggedPDFError), errors.PriorText),
    ((exceptions.MissingDependencyError, exceptions.TesseractConfigError), errors.ToolMissing),
    (exceptions.SubprocessOutputError, errors.ToolFailed),
    (exceptions.OutputFileAccessError, errors.JobStorageError),
    (exceptions.ExitCodeException, errors.InputUnsupported),
]

#: Likewise of what the system says.
_OF_SYSTEM: dict[int | None, type[errors.JobError]] = {
    errno.ENOSPC: errors.JobStorageFull,
    errno.EDQUOT: errors.JobStorageFull,
    errno.EFBIG: errors.JobFileTooLarge,
    errno.ENOMEM: errors.JobOutOfMemory,
}


@contextlib.contextmanager
def as_job_errors() -> Iterator[None]:
    """Runs the block; what is known to go wrong in it becomes an error of ours, the rest passes."""
    try:
        yield
    except MemoryError as error:
        rlimits.wear_out("it ran out of memory")  # which may not have come back
        raise errors.JobOutOfMemory() from error
    except RecursionError as error:
        raise errors.InputUnsupported("The PDF is nested too deeply") from error
    except Exception as error:
        meant = _of_system(error)
        if meant is errors.JobOutOfMemory:
            rlimits.wear_out("it ran out of memory")
        if meant is errors.JobStorageError:
            rlimits.wear_out("the storage failed")  # what it was shut in to may have been replaced
        if meant:
            raise meant() from error
        for kinds, meaning in _MEANINGS:
            if isinstance(error, kinds):
                raise meaning(_plain(error)) from error
        raise


def _of_system(error: BaseException) -> type[errors.JobError] | None:
    """What the system said; OCRmyPDF wraps that in errors of its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _OF_SYSTEM:
            return _OF_SYSTEM[cause.errno]
        cause = cause.__cause__ or cause.__context__
    if os.strerror(errno.ENOSPC) in str(error):
        return errors.JobStorageFull
    return errors.JobStorageError if isinstance(error, OSError) else None


def _plain(error: Exception) -> str:
    """The first paragraph of what OCRmyPDF says, on one line, without paths."""
    first = str(error).strip().split("\n\n")[0]
    return " ".join(first.replace(str(settings.get().data_dir), "…").split())[:500]
