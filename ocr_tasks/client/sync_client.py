"""The synchronous client."""

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
from ocr_tasks.client.calls import Call, Notify, Pause, Reply, Response, Result, Step
from ocr_tasks.client.following import EventStream
from ocr_tasks.client.models import Event, Job, id_of
from ocr_tasks.client.uploads import File, Option


class Client:
    """A client for one OCR Tasks server. Thread-safe.

    Every method that sends requests, except `ready` and `alive`, raises `ApiError` for an error
    response or one that is not from OCR Tasks, and `httpx.TransportError` if the server cannot be
    reached for `patience` seconds.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        patience: float = 60,
        verify: bool | SSLContext = True,
    ) -> None:
        """Creates a client. It connects with the first request.

        `url` and `token` default to OCR_URL and OCR_TOKEN. The token '' sends none. `patience` is
        the number of seconds for which a request is retried while the server cannot be reached or
        its queue is full. `verify` is passed to httpx to verify the server's certificate.
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
        """Closes all connections."""
        self._http.close()

    def ready(self) -> bool:
        """Returns whether the server reports that it is ready."""
        response = self._run(calls.get_once("/readyz"))
        return response is not None and response.status == 200

    def alive(self) -> bool:
        """Returns whether an OCR Tasks server responds at the URL."""
        response = self._run(calls.get_once("/healthz"))
        if response is None or response.status != 200:
            return False
        return b'"ocr-tasks"' in response.content

    def submit(self, *files: File, idempotency_key: str | None = None, **options: Option) -> Job:
        """Uploads files and creates a job. Several files become one PDF.

        A file is a path, bytes, an open file, or a tuple of a name and one of the last two. Files
        are read from the beginning, while they are sent. `options` are the job options (see
        docs/reference/options.md). The same `idempotency_key` with the same files and options
        returns the same job. By default each call uses a new key, so retries within a call create
        only one job.

        Raises:
            ValueError: if there is no file, and no option `workspace` or `upload`.
            OSError: if a file cannot be read.
        """
        return self._run(calls.submit(files, options, idempotency_key, self.patience))

    def job(self, job: Job | str) -> Job:
        """Returns the current state of a job."""
        return self._run(calls.get_job(id_of(job), self.patience))

    def jobs(self, state: str | None = None) -> Iterator[Job]:
        """Yields all jobs, or those in a state, newest first."""
        path: str | None = calls.first_page(state)
        while path:
            page, path = self._run(calls.page_of_jobs(path, self.patience))
            yield from page

    def wait(
        self,
        job: Job | str,
        on_progress: Callable[[Job], object] = lambda job: None,
        timeout: float | None = None,
    ) -> Job:
        """Waits until a job ends, and returns it.

        Calls `on_progress` with the current state of the job and after each change.

        Raises:
            TimeoutError: if it has not ended within `timeout` seconds. The job continues.
        """
        return self._run(calls.wait(id_of(job), on_progress, timeout, self.patience))

    def events(self, job: Job | str, last_event_id: str = "") -> Iterator[Event]:
        """Yields the current state of a job and each change until its end (server-sent events).

        If `last_event_id` is given, starts after that event. Reconnects after a lost connection.
        """
        stream = EventStream(id_of(job), last_event_id, self.patience)
        while not stream.ended:
            try:
                with self._http.stream("GET", stream.path, headers=stream.headers()) as response:
                    if response.status_code != 200:
                        content = response.read()
                        pause = stream.on_response(response.status_code, response.headers, content)
                    else:
                        for sent in EventSource(response).iter_sse():
                            if event := stream.on_event(sent):
                                yield event
                        pause = stream.on_disconnect()
            except httpx.TransportError as error:
                pause = stream.on_disconnect(error)
            time.sleep(pause)

    def download(self, job: Job | str, artifact: str, target: str | Path | BinaryIO) -> None:
        """Downloads a result (`pdf`, `text`, `hocr`, `alto` or `json`) into a file.

        A target given as a path is replaced atomically at the end. The download resumes after a
        lost connection. Its size and SHA-256 are compared with the server's.

        Raises:
            TransferError: if they differ, or if the download cannot be resumed.
            OSError: if the target cannot be written.
        """
        self._run(calls.download(id_of(job), artifact, target, self.patience))

    def text(self, job: Job | str) -> str:
        """Returns the text of a job."""
        return self._run(calls.text(id_of(job), self.patience))

    def cancel(self, job: Job | str) -> Job:
        """Cancels a job and returns it. A job that has ended is returned unchanged."""
        return self._run(calls.cancel(id_of(job), self.patience))

    def retry(self, job: Job | str) -> Job:
        """Runs a job again that failed, was cancelled or has failed pages. Returns the job."""
        return self._run(calls.retry(id_of(job), self.patience))

    def delete(self, job: Job | str) -> None:
        """Deletes a job and its files. A job that has not ended is cancelled first."""
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
                reply = self._execute(step)

    def _execute(self, step: Step) -> Reply:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        if isinstance(step, Notify):
            step.listener(step.job)
            return None
        try:
            with self._http.stream(**step.arguments()) as response:
                status, headers, content = response.status_code, response.headers, b""
                if step.transfer and step.transfer.accept(status, headers):
                    for chunk in response.iter_raw():
                        step.transfer.write(chunk)
                else:
                    content = response.read()
                return Response(status, headers, content)
        except httpx.TransportError as error:
            return error
