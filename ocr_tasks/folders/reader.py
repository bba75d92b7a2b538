"""Has a document read by a server and puts its results into a folder, once, whatever dies.

What is done is in the ledger: the job's id as soon as there is one. Before that, the server knows
the upload again by its Idempotency-Key, which follows from the document and the options.
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
from ocr_tasks.folders.documents import Found
from ocr_tasks.folders.ledger import Entry, Ledger, Stamp

#: Codes of errors after which the document has to be sent anew.
_LOST = frozenset(
    {"job_not_found", "job_deleted", "job_not_retryable", "idempotency_mismatch"}
    | {"result_gone", "result_corrupt"}
)

#: Times that it is.
_TURNS = 3


class NotRead(Exception):
    """The job did not succeed."""

    def __init__(self, why: JobFailure) -> None:
        super().__init__(str(why))
        self.why = why


class Changed(Exception):
    """The document is another one by now."""


@dataclass(frozen=True)
class Read:
    """A document and its results; `now`: they were not there before."""

    entry: Entry
    results: tuple[Path, ...]
    now: bool
    job: Job | None = None


class Reader:
    """Reads documents the same way, with results in the same folder."""

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
        told = json.dumps(self._options, sort_keys=True)
        self._wish = hashlib.sha256(told.encode()).hexdigest()[:16]
        self._claimed: dict[str, str] = {}

    async def read(
        self,
        found: Found,
        name: str,
        tell: Callable[[Job], object] = lambda job: None,
        *,
        renew: bool,
    ) -> Read:
        """The results of a document, which is `name` in the ledger.

        Those that are there already are left, if they are of the same document and options. With
        `renew` they are replaced by those of a document that has changed, and made again if they
        are gone; else new ones get another name.
        """
        entry = await self._entry(found.path, name, renew)
        if entry.done and self._is_there(entry, renew):
            self._ledger.write(entry)  # its time may have changed
            return Read(entry, self._results(entry), now=False)
        turns = 0
        while True:
            try:
                entry, job = await self._job(found, entry, tell)
                entry = await self._publish(found, entry, job)
            except ApiError as error:
                turns += 1
                if error.code not in _LOST or turns == _TURNS:
                    raise
                entry = replace(entry, turn=entry.turn + 1, job="")
                self._ledger.write(entry)
                continue
            return Read(entry, self._results(entry), now=True, job=job)

    def _results(self, entry: Entry) -> tuple[Path, ...]:
        return tuple(self._target(entry.stem, artifact) for artifact in self._artifacts)

    def _is_there(self, entry: Entry, still: bool) -> bool:
        """Whether all that is wanted was made; `still`: and has not been taken away."""
        wanted = {f"{entry.stem}{ENDINGS[artifact]}" for artifact in self._artifacts}
        here = not still or all(result.is_file() for result in self._results(entry))
        return wanted <= set(entry.results) and here

    async def _entry(self, path: Path, name: str, renew: bool) -> Entry:
        """What is known of a document, as it is now."""
        stamp = Stamp.of(path)
        known = self._ledger.read(name)
        if known and known.wish == self._wish and known.stamp == stamp:
            return known
        sha256 = await asyncio.to_thread(documents.sha256_of, path)
        if Stamp.of(path) != stamp:
            raise Changed
        if known and known.wish == self._wish and known.sha256 == sha256:
            return replace(known, stamp=stamp)
        mine = (known.stem, known.results) if known and renew else ("", ())
        return Entry(name, stamp, sha256, self._wish, stem=mine[0], results=mine[1])

    async def _job(
        self, found: Found, entry: Entry, tell: Callable[[Job], object]
    ) -> tuple[Entry, Job]:
        """The job of a document, when it has succeeded."""
        if entry.job:
            job = await self._client.job(entry.job)
        else:
            key = f"{entry.sha256}-{entry.wish}-{entry.turn}"
            with found.path.open("rb") as file:
                sent = (found.path.name, file)
                job = await self._client.submit(sent, idempotency_key=key, **self._options)
            if job.input.sha256 != entry.sha256:  # while it was sent
                await self._client.cancel(job)
                raise Changed
            entry = replace(entry, job=job.id)
            self._ledger.write(entry)
        if job.ended and not job.succeeded:  # at an earlier call
            await self._client.retry(job)
        job = await self._client.wait(job, tell)
        if not job.succeeded:
            raise NotRead(job.error or JobFailure(job.state, f"The job is {job.state}"))
        return entry, job

    async def _publish(self, found: Found, entry: Entry, job: Job) -> Entry:
        """Puts the results where they belong, and notes that."""
        mine = entry.stem if entry.results else ""
        over = entry.results
        sums = {row.name: row.sha256 for row in job.artifacts}
        while True:
            entry = replace(entry, stem=mine or self._stem(found, entry, sums))
            self._ledger.write(entry)
            try:
                for artifact in self._artifacts:
                    target = self._target(entry.stem, artifact)
                    if not _is(target, sums.get(artifact)):
                        renew = f"{entry.stem}{ENDINGS[artifact]}" in over
                        await self._fetch(job, artifact, target, renew)
            except FileExistsError:  # somebody else's
                mine, over = "", ()
                continue
            made = {f"{entry.stem}{ENDINGS[artifact]}" for artifact in self._artifacts}
            entry = replace(entry, done=True, results=tuple(sorted({*over, *made})))
            self._ledger.write(entry)
            self._claimed.pop(entry.stem, None)
            return entry

    def _stem(self, found: Found, entry: Entry, sums: Mapping[str, str]) -> str:
        """Where the results go: a name that nobody has, or that has the same results."""
        first = found.place.with_suffix("").as_posix()
        for number in itertools.count(1):
            stem = first if number == 1 else f"{first}-{number}"
            taken = [self._target(stem, artifact) for artifact in self._artifacts]
            free = all(
                not target.exists() or _is(target, sums.get(artifact))
                for target, artifact in zip(taken, self._artifacts, strict=True)
            )
            if free and self._claimed.setdefault(stem, entry.name) == entry.name:
                return stem
        raise AssertionError  # there is always one more name

    def _target(self, stem: str, artifact: str) -> Path:
        return self._out / f"{stem}{ENDINGS[artifact]}"

    async def _fetch(self, job: Job, artifact: str, target: Path, renew: bool) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        # No longer than it may be, and no other document's.
        new = target.with_name(f".{hashlib.sha256(os.fsencode(target)).hexdigest()[:24]}")
        try:
            await self._client.download(job, artifact, new)
            if renew:
                new.replace(target)
            else:
                moving.publish(new, target)
        finally:
            new.unlink(missing_ok=True)


def _is(path: Path, sha256: str | None) -> bool:
    """Whether a file is there and has that SHA-256."""
    return sha256 is not None and path.is_file() and documents.sha256_of(path) == sha256
