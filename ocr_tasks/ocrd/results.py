"""Adds the results of a document job to the workspace whose images it was created from.

    OCR-D-OCR-PAGE   PAGE-XML, for other processors
    OCR-D-OCR-ALTO   ALTO
    OCR-D-OCR-HOCR   hOCR
    OCR-D-OCR-PDF    the PDF of all pages, which is not assigned to a page

All coordinates are those of the workspace's images. The results of jobs with `deskew` cannot be
added, because the rotation angle is not stored.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from ocr_tasks import errors
from ocr_tasks.formats import alto, hocr, image_coordinates
from ocr_tasks.formats.page import Page
from ocr_tasks.jobs import lifecycle
from ocr_tasks.model import Artifact, Job, Outcome, State
from ocr_tasks.ocrd import bridge, mets_files, page_xml, workspace_leases, workspaces
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd.mets.mets import Mets, is_group_name
from ocr_tasks.ocrd.model import Workspace
from ocr_tasks.storage import atomic, layout
from ocr_tasks.uploads import images

log = logging.getLogger(__name__)

#: Media type and file suffix, by the end of the group's name.
_KINDS = {
    "PAGE": (page_xml.MEDIA_TYPE, ".xml"),
    "ALTO": ("application/alto+xml", ".xml"),
    "HOCR": ("text/vnd.hocr+html", ".hocr"),
}
_SOFTWARE = "OCR Tasks"
_STEP = "recognition/text-recognition"

#: A file for METS: group, id, page, media type, path.
_Entry = tuple[str, str, str, str, str]


def add_results(
    workspace: Workspace,
    job: Job,
    pages: Sequence[str],
    group: str = "",
    prefix: str = "OCR-D-OCR",
) -> list[str]:
    """Adds the results of a job, created from the images of these pages, to a workspace.

    `group` is the one that was passed to `bridge.images`; `prefix` begins the names of the new
    groups. Returns the ids of the pages that were OCRed; the others get no files. Repeating it
    replaces the files.
    """
    artifact = _check(job, pages, prefix)
    mets = mets_files.read(workspace.mets)
    sources = bridge.images_of(workspace, mets, group or bridge.first_group(mets, pages), pages)
    ids = bridge.OutputIds(mets)
    entries: list[_Entry] = []
    processed = []
    for number, (page_id, path, _) in enumerate(sources, start=1):
        page = _page(job, number)
        if page is not None:
            width, height, orientation = images.geometry(path)
            placed = image_coordinates.in_image(page, width, height, orientation)
            href = path.relative_to(workspace.folder).as_posix()
            entries += _write(workspace.folder, job, ids, prefix, page_id, placed, href)
            processed.append(page_id)
    entries.append(_write_pdf(workspace.folder, job, artifact, f"{prefix}-PDF"))
    _update_mets(workspace, job, entries, prefix)
    return processed


def _check(job: Job, pages: Sequence[str], prefix: str) -> Artifact:
    """Returns the PDF of a job; raises an error if its results cannot be added."""
    if not job.state.final:
        raise errors.JobNotFinished(f"The job is {job.state}", state=job.state)
    if job.state is not State.SUCCEEDED or job.outcome is None:
        raise errors.JobWithoutResult(f"The job is {job.state}", state=job.state)
    if job.input.pages != len(pages):
        raise ocrd_errors.ProcessingInvalid(
            f"The job has {job.input.pages} pages, not {len(pages)}"
        )
    if job.options.get("deskew"):
        raise ocrd_errors.ProcessingInvalid(
            "The job used deskew; its coordinates cannot be mapped to the original images"
        )
    if not is_group_name(f"{prefix}-PAGE"):
        raise ocrd_errors.ProcessingInvalid(
            f"{prefix!r:.200} is not a valid beginning of a file group's name"
        )
    return next(row for row in job.outcome.artifacts if row.name == "pdf")


def _page(job: Job, number: int) -> Page | None:
    """Returns the result of a page (1-based), or None if it was not OCRed."""
    content = layout.job(job.id).page_words(number)
    if content is None:
        return None
    try:
        page = Page.from_json(content)
    except ValueError as error:
        raise errors.ResultCorrupt(f"The stored result of page {number} is corrupt") from error
    return None if page.source == "none" else page


def _write(
    folder: Path,
    job: Job,
    ids: bridge.OutputIds,
    prefix: str,
    page_id: str,
    page: Page,
    image: str,
) -> Iterator[_Entry]:
    """Writes the files of a page; `image` is the path of its image relative to METS."""
    # The job's time, so that repeating this writes identical files.
    when = datetime.fromtimestamp(job.ended_at or job.created_at, UTC)
    ours = version("ocr-tasks")
    for kind, (media_type, suffix) in _KINDS.items():
        group = f"{prefix}-{kind}"
        file_id = ids.of(group, page_id, media_type)
        software = f"{_SOFTWARE} {ours}"
        chunks: Iterable[str]
        if kind == "PAGE":
            source = page_xml.Source(image)
            chunks = page_xml.document(page, source, file_id, software, None, when)
        elif kind == "ALTO":
            chunks = alto.document([page], image, _SOFTWARE, ours, when)
        else:
            chunks = hocr.document([page], page_id, software)
        href = f"{group}/{file_id}{suffix}"
        atomic.write(_target(folder, href), "".join(chunks).encode())
        yield group, file_id, page_id, media_type, href


def _write_pdf(folder: Path, job: Job, artifact: Artifact, group: str) -> _Entry:
    assert job.outcome  # noqa: S101  # checked by _check
    path = layout.job(job.id).artifact(job.outcome.run, artifact.name)
    layout.check_artifact(path, artifact)
    file_id = f"{group}_{job.id}"
    href = f"{group}/{file_id}.pdf"
    target = _target(folder, href)
    with atomic.replacing(target) as part:
        shutil.copyfile(path, part)
    return group, file_id, "", artifact.media_type, href


def _target(folder: Path, href: str) -> Path:
    path = bridge.below(folder, href)
    path.parent.mkdir(exist_ok=True)
    return path


def _update_mets(workspace: Workspace, job: Job, entries: Iterable[_Entry], prefix: str) -> None:
    """Adds the files to the METS file, under its lease."""
    with workspace_leases.mets_lease(workspaces.key(workspace)) as lease:
        mets = Mets.read(workspace.mets)
        known = {file.id for file in mets.files(f"{prefix}-PDF")}
        for entry in entries:
            mets.add_file(*entry)
        if f"{prefix}-PDF_{job.id}" not in known:
            mets.add_agent(f"{_SOFTWARE} v{version('ocr-tasks')}", _STEP, {"job": job.id})
        lease.renew()
        mets.write(workspace.mets)


def deliver(job_id: str, outcome: Outcome) -> Outcome:
    """Adds a document's results to the workspace that its images come from, if any.

    Returns the outcome, with a warning if they could not be added.
    """
    try:
        job = lifecycle.read(job_id)
    except (errors.JobNotFound, errors.JobDeleted):
        return outcome  # the commit will be rejected
    source = job.input.workspace
    if source is None:
        return outcome
    ended = replace(job, state=State.SUCCEEDED, outcome=outcome)
    try:
        workspace = workspaces.read(source.id, None)
        add_results(workspace, ended, source.pages, source.group)
    except (
        errors.RequestError,
        ocrd_errors.ProcessorFailed,
        errors.ResultCorrupt,
        OSError,
    ) as error:
        # The job succeeds nevertheless.
        reason = error.strerror if isinstance(error, OSError) else error.detail
        warning = f"The results were not added to the workspace: {reason}"
        log.warning("job %s: %s", job_id, warning)
        return replace(outcome, warnings=(*outcome.warnings, warning))
    return outcome
