"""The client for asyncio."""

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
from ocr_tasks.client.calls import Call, Notify, Pause, Reply, Response, Result, Step
from ocr_tasks.client.following import EventStream
from ocr_tasks.client.models import Event, Job, id_of
from ocr_tasks.client.uploads import File, Option


class AsyncClient:
    """`Client` for asyncio, with the same methods as coroutines. Tasks may share it.

    Files are read and written in chunks in the event loop's thread.
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
        """Closes all connections."""
        await self._http.aclose()

    async def ready(self) -> bool:
        """See `Client.ready`."""
        response = await self._run(calls.get_once("/readyz"))
        return response is not None and response.status == 200

    async def alive(self) -> bool:
        """See `Client.alive`."""
        response = await self._run(calls.get_once("/healthz"))
        if response is None or response.status != 200:
            return False
        return b'"ocr-tasks"' in response.content

    async def submit(
        self, *files: File, idempotency_key: str | None = None, **options: Option
    ) -> Job:
        """See `Client.submit`."""
        return await self._run(calls.submit(files, options, idempotency_key, self.patience))

    async def job(self, job: Job | str) -> Job:
        """See `Client.job`."""
        return await self._run(calls.get_job(id_of(job), self.patience))

    async def jobs(self, state: str | None = None) -> AsyncIterator[Job]:
        """See `Client.jobs`."""
        path: str | None = calls.first_page(state)
        while path:
            page, path = await self._run(calls.page_of_jobs(path, self.patience))
            for job in page:
                yield job

    async def wait(
        self,
        job: Job | str,
        on_progress: Callable[[Job], object] = lambda job: None,
        timeout: float | None = None,
    ) -> Job:
        """See `Client.wait`. `on_progress` may be a coroutine function."""
        return await self._run(calls.wait(id_of(job), on_progress, timeout, self.patience))

    async def events(self, job: Job | str, last_event_id: str = "") -> AsyncIterator[Event]:
        """See `Client.events`."""
        stream = EventStream(id_of(job), last_event_id, self.patience)
        while not stream.ended:
            try:
                headers = stream.headers()
                async with self._http.stream("GET", stream.path, headers=headers) as response:
                    if response.status_code != 200:
                        content = await response.aread()
                        pause = stream.on_response(response.status_code, response.headers, content)
                    else:
                        async for sent in EventSource(response).aiter_sse():
                            if event := stream.on_event(sent):
                                yield event
                        pause = stream.on_disconnect()
            except httpx.TransportError as error:
                pause = stream.on_disconnect(error)
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
                reply = await self._execute(step)

    async def _execute(self, step: Step) -> Reply:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        if isinstance(step, Notify):
            returned = step.listener(step.job)
            if inspect.isawaitable(returned):
                await returned
            return None
        try:
            async with self._http.stream(**step.arguments()) as response:
                status, headers, content = response.status_code, response.headers, b""
                if step.transfer and step.transfer.accept(status, headers):
                    async for chunk in response.aiter_raw():
                        step.transfer.write(chunk)
                else:
                    content = await response.aread()
                return Response(status, headers, content)
        except httpx.TransportError as error:
            return error
