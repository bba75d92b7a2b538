"""The client for programs that use asyncio."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
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


class AsyncClient:
    """`Client` for asyncio: the same methods, to be awaited. Tasks may share it.

    Files are read and written in pieces by the thread that it runs in.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        patience: float = 60,
        verify: bool | SSLContext = True,
    ) -> None:
        """See `Client`."""
        token = environment.token() if token is None else token.strip()
        self.patience = patience
        self._http = httpx.AsyncClient(
            base_url=url or environment.url(),
            timeout=calls.TIMEOUT,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            verify=verify,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connections."""
        await self._http.aclose()

    async def ready(self) -> bool:
        """See `Client.ready`."""
        answer = await self._run(calls.once("/readyz"))
        return answer is not None and answer.status == 200

    async def alive(self) -> bool:
        """See `Client.alive`."""
        answer = await self._run(calls.once("/healthz"))
        return answer is not None and answer.status == 200 and b'"ocr-tasks"' in answer.content

    async def submit(
        self, *files: File, idempotency_key: str | None = None, **options: Option
    ) -> Job:
        """See `Client.submit`."""
        return await self._run(calls.submit(files, options, idempotency_key, self.patience))

    async def job(self, job: Job | str) -> Job:
        """See `Client.job`."""
        return await self._run(calls.read(id_of(job), self.patience))

    async def jobs(self, state: str | None = None) -> AsyncIterator[Job]:
        """See `Client.jobs`."""
        path: str | None = calls.first_page(state)
        while path:
            found, path = await self._run(calls.page_of_jobs(path, self.patience))
            for job in found:
                yield job

    async def wait(
        self,
        job: Job | str,
        on_progress: Callable[[Job], object] = lambda job: None,
        timeout: float | None = None,
    ) -> Job:
        """See `Client.wait`; what `on_progress` returns is awaited if it can be."""
        return await self._run(calls.wait(id_of(job), on_progress, timeout, self.patience))

    async def events(self, job: Job | str, last_event_id: str = "") -> AsyncIterator[Event]:
        """See `Client.events`."""
        course = Following(id_of(job), last_event_id, self.patience)
        while not course.ended:
            try:
                headers = course.headers()
                async with self._http.stream("GET", course.path, headers=headers) as response:
                    if response.status_code != 200:
                        found = response.status_code, response.headers, await response.aread()
                        pause = course.refused(*found)
                    else:
                        async for sent in EventSource(response).aiter_sse():
                            if event := course.take(sent):
                                yield event
                        pause = course.broken()
            except httpx.TransportError as error:
                pause = course.broken(error)
            await asyncio.sleep(pause)

    async def download(self, job: Job | str, artifact: str, target: str | Path | BinaryIO) -> None:
        """See `Client.download`."""
        await self._run(calls.download(id_of(job), artifact, target, self.patience))

    async def text(self, job: Job | str) -> str:
        """See `Client.text`."""
        return await self._run(calls.text(id_of(job), self.patience))

    async def cancel(self, job: Job | str) -> Job:
        """See `Client.cancel`."""
        return await self._run(calls.cancel(id_of(job), self.patience))

    async def retry(self, job: Job | str) -> Job:
        """See `Client.retry`."""
        return await self._run(calls.retry(id_of(job), self.patience))

    async def delete(self, job: Job | str) -> None:
        """See `Client.delete`."""
        await self._run(calls.delete(id_of(job), self.patience))

    async def _run(self, call: Call[Result]) -> Result:
        reply: Reply = None
        with closing(call):
            while True:
                try:
                    step = call.send(reply)
                except StopIteration as end:
                    result: Result = end.value
                    return result
                reply = await self._do(step)

    async def _do(self, step: Step) -> Reply:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        if isinstance(step, Tell):
            told = step.listener(step.job)
            if inspect.isawaitable(told):
                await told
            return None
        try:
            async with self._http.stream(**step.request()) as response:
                status, headers, content = response.status_code, response.headers, b""
                if step.transfer and step.transfer.begins(status, headers):
                    async for piece in response.aiter_raw():
                        step.transfer.write(piece)
                else:
                    content = await response.aread()
                return Answer(status, headers, content)
        except httpx.TransportError as error:
            return error
