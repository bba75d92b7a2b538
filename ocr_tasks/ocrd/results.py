"""From one of our jobs back to a workspace: what was read of its images, as groups of files.

    OCR-D-OCR-PAGE   PAGE-XML, for other processors
    OCR-D-OCR-ALTO   ALTO
    OCR-D-OCR-HOCR   hOCR
    OCR-D-OCR-PDF    the PDF of all pages, which is not said to show any one of them

All places are those of the workspace's images, whatever the job made of them. A job that
straightens pages (`deskew`) cannot be given back: by how much it turned them nobody has kept.
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
from ocr_tasks.formats import alto, hocr, page_xml, placement
from ocr_tasks.formats.page import Page
from ocr_tasks.jobs import lifecycle
from ocr_tasks.model import Artifact, Job, Outcome, State
from ocr_tasks.ocrd import bridge, claims, mets_files, workspaces
from ocr_tasks.ocrd.mets.mets import Mets, is_group_name
from ocr_tasks.ocrd.model import Workspace
from ocr_tasks.storage import atomic, layout
from ocr_tasks.uploads import images

log = logging.getLogger(__name__)

#: By the end of the group's name: media type, ending of the files' names.
_KINDS = {
    "PAGE": (page_xml.MEDIA_TYPE, ".xml"),
    "ALTO": ("application/alto+xml", ".xml"),
    "HOCR": ("text/vnd.hocr+html", ".hocr"),
}
_SOFTWARE = "OCR Tasks"
_STEP = "recognition/text-recognition"

#: A file for METS: group, id, page, media type, path.
_Entry = tuple[str, str, str, str, str]


def give(
    workspace: Workspace,
    job: Job,
    pages: Sequence[str],
    group: str = "",
    prefix: str = "OCR-D-OCR",
) -> list[str]:
    """Adds to a workspace what a job read of the images of its pages, in this order, in a group.

    `group` is the one that `bridge.images` was asked for. Gives the pages that were read; the
    others get no files. Doing it again replaces what is there.
    """
    artifact = _check(job, pages, prefix)
    mets = mets_files.read(workspace.mets)
    sources = bridge.images_of(workspace, mets, group or bridge.first_group(mets, pages), pages)
    ids = bridge.OutputIds(mets)
    entries: list[_Entry] = []
    read = []
    for number, (page_id, path, _) in enumerate(sources, start=1):
        page = _words(job, number)
        if page is not None:
            width, height, orientation = images.geometry(path)
            placed = placement.in_image(page, width, height, orientation)
            href = path.relative_to(workspace.folder).as_posix()
            entries += _write(workspace.folder, job, ids, prefix, page_id, placed, href)
            read.append(page_id)
    entries.append(_write_pdf(workspace.folder, job, artifact, f"{prefix}-PDF"))
    _enter(workspace, job, entries, prefix)
    return read


def _check(job: Job, pages: Sequence[str], prefix: str) -> Artifact:
    """The PDF of a job that can be given back."""
    if not job.state.final:
        raise errors.JobNotFinished(f"The job is {job.state}", state=job.state)
    if job.state is not State.SUCCEEDED or job.outcome is None:
        raise errors.JobWithoutResult(f"The job is {job.state}", state=job.state)
    if job.input.pages != len(pages):
        raise errors.ProcessingInvalid(f"The job has {job.input.pages} pages, not {len(pages)}")
    if job.options.get("deskew"):
        raise errors.ProcessingInvalid(
            "The job used deskew; its coordinates cannot be mapped to the original images"
        )
    if not is_group_name(f"{prefix}-PAGE"):
        raise errors.ProcessingInvalid(
            f"{prefix!r:.200} is not a valid beginning of a file group's name"
        )
    return next(row for row in job.outcome.artifacts if row.name == "pdf")


def _words(job: Job, number: int) -> Page | None:
    """What was read on a page, counted from 1; None if it was not read."""
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
    """Writes the files of a page, whose image is at a path beside METS."""
    # The time at which it was read, so that the same files are written when it is done again.
    when = datetime.fromtimestamp(job.ended_at or job.created_at, UTC)
    ours = version("ocr-tasks")
    for kind, (media_type, ending) in _KINDS.items():
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
        href = f"{group}/{file_id}{ending}"
        atomic.write(_target(folder, href), "".join(chunks).encode())
        yield group, file_id, page_id, media_type, href


def _write_pdf(folder: Path, job: Job, artifact: Artifact, group: str) -> _Entry:
    assert job.outcome  # noqa: S101  # _check has made sure of it
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


def _enter(workspace: Workspace, job: Job, entries: Iterable[_Entry], prefix: str) -> None:
    """Puts files into METS, which others may have changed meanwhile."""
    with claims.mets_lease(workspaces.key(workspace)) as lease:
        mets = Mets.read(workspace.mets)
        known = {file.id for file in mets.files(f"{prefix}-PDF")}
        for entry in entries:
            mets.add_file(*entry)
        if f"{prefix}-PDF_{job.id}" not in known:
            mets.add_agent(f"{_SOFTWARE} v{version('ocr-tasks')}", _STEP, {"job": job.id})
        lease.keep()
        mets.write(workspace.mets)


def deliver(job_id: str, outcome: Outcome) -> Outcome:
    """Gives what was read to the workspace whose images the document was made of, if any."""
    try:
        job = lifecycle.read(job_id)
    except (errors.JobNotFound, errors.JobDeleted):
        return outcome  # which does not count: the commit says so
    source = job.input.workspace
    if source is None:
        return outcome
    ended = replace(job, state=State.SUCCEEDED, outcome=outcome)
    try:
        workspace = workspaces.read(source.id, None)
        give(workspace, ended, source.pages, source.group)
    except (errors.RequestError, errors.ProcessorFailed, errors.ResultCorrupt, OSError) as error:
        # The document is read all the same.
        reason = error.strerror if isinstance(error, OSError) else error.detail
        warning = f"The workspace did not get what was read: {reason}"
        log.warning("job %s: %s", job_id, warning)
        return replace(outcome, warnings=(*outcome.warnings, warning))
    return outcome
