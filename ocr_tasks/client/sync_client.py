"""The client for programs with threads, or without."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from ssl import SSLContext
from typing import BinaryIO, Self

import httpx
from httpx_sse import EventSource

from ocr_tasks.client import calls, environment
from ocr_tasks.client.calls import Answer, Call, Pause, Reply, Result, Step, Tell
from ocr_tasks.client.following import Following
from ocr_tasks.client.models import Event, Job, id_of
from ocr_tasks.client.uploads import File, Option


class Client:
    """Talks to one OCR Tasks server. Threads may share it.

    All that asks the server raises `ApiError` if it refuses, and `httpx.TransportError` if it
    cannot be reached for as long as there is patience.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        patience: float = 60,
        verify: bool | SSLContext = True,
    ) -> None:
        """`url` and `token` None: OCR_URL and OCR_TOKEN; a token '' is none.

        `patience`: seconds for which a request is tried again while the server cannot be reached,
        or has no room. `verify`: how its certificate is verified, see httpx.
        """
        token = environment.token() if token is None else token.strip()
        self.patience = patience
        self._http = httpx.Client(
            base_url=url or environment.url(),
            timeout=calls.TIMEOUT,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            verify=verify,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections."""
        self._http.close()

    def ready(self) -> bool:
        """Whether the server answers and says that all its parts are there."""
        answer = self._run(calls.once("/readyz"))
        return answer is not None and answer.status == 200

    def alive(self) -> bool:
        """Whether an OCR Tasks server answers at all."""
        answer = self._run(calls.once("/healthz"))
        return answer is not None and answer.status == 200 and b'"ocr-tasks"' in answer.content

    def submit(self, *files: File, idempotency_key: str | None = None, **options: Option) -> Job:
        """Makes a job of files, which are sent as they are read; several become one PDF.

        A file is a path, bytes, an open file, or a tuple of a name and one of the last two. Files
        are read from their beginning. `options` are those of GET /v1/options. With the same
        `idempotency_key` the same files and options give the same job; each call has one of its
        own, so that an upload that is tried again makes one job.

        Raises:
            ValueError: if there is no file.
            OSError: if one cannot be read.
        """
        return self._run(calls.submit(files, options, idempotency_key, self.patience))

    def job(self, job: Job | str) -> Job:
        """The job as it is now, of one from earlier or its id."""
        return self._run(calls.read(id_of(job), self.patience))

    def jobs(self, state: str | None = None) -> Iterator[Job]:
        """All jobs, or those in a state, newest first."""
        path: str | None = calls.first_page(state)
        while path:
            found, path = self._run(calls.page_of_jobs(path, self.patience))
            yield from found

    def wait(
        self,
        job: Job | str,
        on_progress: Callable[[Job], object] = lambda job: None,
        timeout: float | None = None,
    ) -> Job:
        """The job when it has ended; how it is now, and each change, goes to `on_progress`.

        Raises:
            TimeoutError: if it has not ended within `timeout` seconds; it goes on.
        """
        return self._run(calls.wait(id_of(job), on_progress, timeout, self.patience))

    def events(self, job: Job | str, last_event_id: str = "") -> Iterator[Event]:
        """How the job is now, and each change until its end, as the server tells them.

        It begins after the event `last_event_id`, if that is given.
        """
        course = Following(id_of(job), last_event_id, self.patience)
        while not course.ended:
            try:
                with self._http.stream("GET", course.path, headers=course.headers()) as response:
                    if response.status_code != 200:
                        found = response.status_code, response.headers, response.read()
                        pause = course.refused(*found)
                    else:
                        for sent in EventSource(response).iter_sse():
                            if event := course.take(sent):
                                yield event
                        pause = course.broken()
            except httpx.TransportError as error:
                pause = course.broken(error)
            time.sleep(pause)

    def download(self, job: Job | str, artifact: str, target: str | Path | BinaryIO) -> None:
        """Fetches a result, `pdf`, `text`, `hocr`, `alto` or `json`, into a file.

        A file that is named by its path appears whole or not at all. After a lost connection it
        goes on where it was; at the end size and SHA-256 are compared with the server's.

        Raises:
            TransferError: if they differ.
            OSError: if it cannot be written.
        """
        self._run(calls.download(id_of(job), artifact, target, self.patience))

    def text(self, job: Job | str) -> str:
        """The text of a job."""
        return self._run(calls.text(id_of(job), self.patience))

    def cancel(self, job: Job | str) -> Job:
        """Cancels a job; one that has ended stays as it is."""
        return self._run(calls.cancel(id_of(job), self.patience))

    def retry(self, job: Job | str) -> Job:
        """Runs a job again that failed, was cancelled or has failed pages."""
        return self._run(calls.retry(id_of(job), self.patience))

    def delete(self, job: Job | str) -> None:
        """Deletes a job and its files; it is cancelled first if need be."""
        self._run(calls.delete(id_of(job), self.patience))

    def _run(self, call: Call[Result]) -> Result:
        reply: Reply = None
        with closing(call):
            while True:
                try:
                    step = call.send(reply)
                except StopIteration as end:
                    result: Result = end.value
                    return result
                reply = self._do(step)

    def _do(self, step: Step) -> Reply:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        if isinstance(step, Tell):
            step.listener(step.job)
            return None
        try:
            with self._http.stream(**step.request()) as response:
                status, headers, content = response.status_code, response.headers, b""
                if step.transfer and step.transfer.begins(status, headers):
                    for piece in response.iter_raw():
                        step.transfer.write(piece)
                else:
                    content = response.read()
                return Answer(status, headers, content)
        except httpx.TransportError as error:
            return error
