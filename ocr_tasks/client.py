"""A client for the HTTP API, small and of its own: it imports nothing of ours."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

FINAL = ("succeeded", "failed", "cancelled")
_POLL_SECONDS = 20
_TRIES = 5


class ApiError(Exception):
    """The service refused; `code` is its stable code, the text what happened and what to do."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", "unknown"))
        detail = problem.get("detail") or problem.get("title") or f"HTTP status {status}"
        super().__init__(f"{detail} {problem.get('advice', '')}".strip())


class Client:
    """Talks to one OCR Tasks server."""

    def __init__(self, url: str, token: str = "") -> None:
        """`token` is needed where the server does not serve everybody."""
        self._http = httpx.Client(
            base_url=url,
            timeout=httpx.Timeout(60, read=_POLL_SECONDS + 40),
            headers={"Authorization": f"Bearer {token.strip()}"} if token else {},
        )

    def close(self) -> None:
        self._http.close()

    def ready(self) -> bool:
        """Whether the server answers and says that all its parts are there."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def alive(self) -> bool:
        """Whether an OCR Tasks server answers at all."""
        try:
            answer = self._http.get("/healthz")
        except httpx.TransportError:
            return False
        return answer.status_code == 200 and answer.json().get("service") == "ocr-tasks"

    def submit(
        self, files: Sequence[Path], options: Mapping[str, str | list[str]]
    ) -> dict[str, Any]:
        """Makes a job of the files, which are streamed; several become one PDF.

        Raises:
            ApiError, httpx.TransportError
        """
        with contextlib.ExitStack() as stack:
            parts = [("file", (file.name, stack.enter_context(file.open("rb")))) for file in files]
            return self._json(self._http.post("/v1/jobs", data=dict(options), files=parts))

    def job(self, job_id: str) -> dict[str, Any]:
        """The job as it is now.

        Raises:
            ApiError, httpx.TransportError
        """
        return self._json(self._http.get(f"/v1/jobs/{job_id}"))

    def wait(
        self, job: dict[str, Any], on_change: Callable[[dict[str, Any]], None] = lambda job: None
    ) -> dict[str, Any]:
        """The job when it has ended; each change meanwhile goes to `on_change`.

        A connection that is lost is tried again for some seconds.

        Raises:
            ApiError, httpx.TransportError
        """
        etag = ""
        failures = 0
        while job["state"] not in FINAL:
            try:
                answer = self._http.get(
                    f"/v1/jobs/{job['id']}?wait={_POLL_SECONDS}", headers={"If-None-Match": etag}
                )
            except httpx.TransportError:
                failures += 1
                if failures >= _TRIES:
                    raise
                time.sleep(failures)
                continue
            failures = 0
            if answer.status_code != 304:
                job = self._json(answer)
                etag = answer.headers["ETag"]
                on_change(job)
        return job

    def download(self, job_id: str, artifact: str, target: Path) -> None:
        """Writes an artifact to a file, which appears whole or not at all.

        Raises:
            ApiError, httpx.TransportError
        """
        part = target.with_name(f".{target.name}.part")
        with self._http.stream("GET", f"/v1/jobs/{job_id}/{artifact}") as answer:
            if answer.status_code != 200:
                answer.read()
                self._json(answer)
            with part.open("wb") as file:
                file.writelines(answer.iter_bytes())
        part.replace(target)

    def cancel(self, job_id: str) -> None:
        """Cancels a job; one that has ended stays as it is.

        Raises:
            ApiError, httpx.TransportError
        """
        with contextlib.suppress(ApiError):
            self._json(self._http.post(f"/v1/jobs/{job_id}/cancel"))

    def _json(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            body: dict[str, Any] = answer.json()
        except ValueError:
            body = {}
        if answer.is_error:
            raise ApiError(answer.status_code, body)
        return body


@contextlib.contextmanager
def connected(url: str, token: str = "") -> Iterator[Client]:
    """A client for the time of the block."""
    client = Client(url, token)
    try:
        yield client
    finally:
        client.close()
