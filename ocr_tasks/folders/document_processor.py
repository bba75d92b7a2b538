"""Processes a document on a server and stores its results in a folder, exactly once.

The ledger records the progress, including the job's id as soon as the server has returned it. After
a crash before that, the same Idempotency-Key, which is derived from the document and the options,
returns the same job.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ocr_tasks.client import ApiError, AsyncClient, Job, JobFailure, Option
from ocr_tasks.client.models import ENDINGS
from ocr_tasks.folders import documents, moving
from ocr_tasks.folders.documents import Document
from ocr_tasks.folders.ledger import Entry, Ledger, Stamp

#: Codes of errors after which the document has to be submitted again.
_LOST = frozenset(
    {"job_not_found", "job_deleted", "job_not_retryable", "idempotency_mismatch"}
    | {"result_gone", "result_corrupt"}
)

#: Number of times that a document is submitted.
_SUBMITS = 3


class JobFailed(Exception):
    """The job did not succeed."""

    def __init__(self, failure: JobFailure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class DocumentChanged(Exception):
    """The file changed while it was processed."""


@dataclass(frozen=True)
class Result:
    """The results of a document. `new` is false if they already existed."""

    entry: Entry
    paths: tuple[Path, ...]
    new: bool
    job: Job | None = None


class DocumentProcessor:
    """Processes documents with the same options, and stores the results in the same folder."""

    def __init__(
        self,
        client: AsyncClient,
        out: Path,
        ledger: Ledger,
        options: Mapping[str, Option],
        artifacts: Sequence[str],
    ) -> None:
        self._client, self._out, self._ledger = client, out, ledger
        self._options, self._artifacts = dict(options), tuple(artifacts)
        text = json.dumps(self._options, sort_keys=True)
        self._options_digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._reserved: dict[str, str] = {}

    async def process(
        self,
        document: Document,
        name: str,
        listener: Callable[[Job], object] = lambda job: None,
        *,
        renew: bool,
    ) -> Result:
        """Returns the results of a document. `name` identifies it in the ledger.

        Results of the same document and options are kept. With `renew`, missing results are created
        again, and results of an earlier version of the document are replaced; without it, results
        of a changed document get new names.
        """
        entry = await self._entry(document.path, name, renew)
        if entry.done and self._has_results(entry, renew):
            self._ledger.write(entry)  # the modification time may differ
            return Result(entry, self._paths(entry), new=False)
        failures = 0
        while True:
            try:
                entry, job = await self._job(document, entry, listener)
                entry = await self._publish(document, entry, job)
            except ApiError as error:
                failures += 1
                if error.code not in _LOST or failures == _SUBMITS:
                    raise
                entry = replace(entry, turn=entry.turn + 1, job="")
                self._ledger.write(entry)
                continue
            return Result(entry, self._paths(entry), new=True, job=job)

    def _paths(self, entry: Entry) -> tuple[Path, ...]:
        return tuple(self._target(entry.stem, artifact) for artifact in self._artifacts)

    def _has_results(self, entry: Entry, check_files: bool) -> bool:
        """Returns whether all selected results were stored and, if requested, still exist."""
        selected = {f"{entry.stem}{ENDINGS[artifact]}" for artifact in self._artifacts}
        exist = not check_files or all(path.is_file() for path in self._paths(entry))
        return selected <= set(entry.results) and exist

    async def _entry(self, path: Path, name: str, renew: bool) -> Entry:
        """Returns the ledger entry of a document, or a new one if the document has changed."""
        stamp = Stamp.of(path)
        known = self._ledger.read(name)
        if known and known.wish == self._options_digest and known.stamp == stamp:
            return known
        sha256 = await asyncio.to_thread(documents.sha256_of, path)
        if Stamp.of(path) != stamp:
            raise DocumentChanged
        if known and known.wish == self._options_digest and known.sha256 == sha256:
            return replace(known, stamp=stamp)
        stem, results = (known.stem, known.results) if known and renew else ("", ())
        return Entry(name, stamp, sha256, self._options_digest, stem=stem, results=results)

    async def _job(
        self, document: Document, entry: Entry, listener: Callable[[Job], object]
    ) -> tuple[Entry, Job]:
        """Submits a document, unless it has a job, and waits until the job has succeeded."""
        if entry.job:
            job = await self._client.job(entry.job)
        else:
            key = f"{entry.sha256}-{entry.wish}-{entry.turn}"
            with document.path.open("rb") as file:
                upload = (document.path.name, file)
                job = await self._client.submit(upload, idempotency_key=key, **self._options)
            if job.input.sha256 != entry.sha256:  # the file changed during the upload
                await self._client.cancel(job)
                raise DocumentChanged
            entry = replace(entry, job=job.id)
            self._ledger.write(entry)
        if job.ended and not job.succeeded:  # it failed during an earlier run of the client
            await self._client.retry(job)
        job = await self._client.wait(job, listener)
        if not job.succeeded:
            raise JobFailed(job.error or JobFailure(job.state, f"The job is {job.state}"))
        return entry, job

    async def _publish(self, document: Document, entry: Entry, job: Job) -> Entry:
        """Downloads the results to their final names, and records that in the ledger."""
        own_stem = entry.stem if entry.results else ""
        replaceable = entry.results
        sums = {row.name: row.sha256 for row in job.artifacts}
        while True:
            entry = replace(entry, stem=own_stem or self._free_stem(document, entry, sums))
            self._ledger.write(entry)
            try:
                for artifact in self._artifacts:
                    target = self._target(entry.stem, artifact)
                    if not _has_sha256(target, sums.get(artifact)):
                        renew = f"{entry.stem}{ENDINGS[artifact]}" in replaceable
                        await self._download(job, artifact, target, renew)
            except FileExistsError:  # created by another program
                own_stem, replaceable = "", ()
                continue
            stored = {f"{entry.stem}{ENDINGS[artifact]}" for artifact in self._artifacts}
            entry = replace(entry, done=True, results=tuple(sorted({*replaceable, *stored})))
            self._ledger.write(entry)
            self._reserved.pop(entry.stem, None)
            return entry

    def _free_stem(self, document: Document, entry: Entry, sums: Mapping[str, str]) -> str:
        """Returns a stem whose files do not exist yet, or already contain these results."""
        first = document.place.with_suffix("").as_posix()
        for number in itertools.count(1):
            stem = first if number == 1 else f"{first}-{number}"
            targets = [self._target(stem, artifact) for artifact in self._artifacts]
            free = all(
                not target.exists() or _has_sha256(target, sums.get(artifact))
                for target, artifact in zip(targets, self._artifacts, strict=True)
            )
            if free and self._reserved.setdefault(stem, entry.name) == entry.name:
                return stem
        raise AssertionError  # the loop is endless

    def _target(self, stem: str, artifact: str) -> Path:
        return self._out / f"{stem}{ENDINGS[artifact]}"

    async def _download(self, job: Job, artifact: str, target: Path, renew: bool) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The hash of the path is unique, and never too long for the file system.
        new = target.with_name(f".{hashlib.sha256(os.fsencode(target)).hexdigest()[:24]}")
        try:
            await self._client.download(job, artifact, new)
            if renew:
                new.replace(target)
            else:
                moving.publish(new, target)
        finally:
            new.unlink(missing_ok=True)


def _has_sha256(path: Path, sha256: str | None) -> bool:
    """Returns whether a file exists and has this SHA-256."""
    return sha256 is not None and path.is_file() and documents.sha256_of(path) == sha256
