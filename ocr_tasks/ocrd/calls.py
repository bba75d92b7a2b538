"""Implementation of the `ocr-tasks ocrd …` commands, via OCR-D's Web API."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from ocr_tasks.client import ApiError, environment
from ocr_tasks.exits import FAILED, REFUSED, UNAVAILABLE, USAGE, report

_FINAL = ("SUCCESS", "FAILED", "CANCELLED")
_WAIT_SECONDS = 20
_CHUNK_BYTES = 1 << 20


class Api:
    """The OCR-D Web API of a server."""

    def __init__(self, url: str, token: str) -> None:
        self.http = httpx.Client(
            base_url=f"{url.rstrip('/')}/ocrd",
            # Checking and packing large workspaces takes long.
            timeout=httpx.Timeout(60, read=600),
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Sends a request and returns the response. Raises ApiError if it is an error."""
        response = self.http.request(method, path, **arguments)
        _check(response)
        return response

    def json(self, method: str, path: str, **arguments: Any) -> Any:
        return self.request(method, path, **arguments).json()


def _check(response: httpx.Response) -> None:
    if response.is_error:
        raise ApiError.of(response.status_code, response.headers, response.content)


#: Implements one command, and returns its exit code.
Action = Callable[[Api, argparse.Namespace], int]


def act(action: Action, options: argparse.Namespace) -> int:
    """Runs an action with the API of the selected server, and returns the exit code."""
    api = Api(options.url, environment.token())
    try:
        with api.http:
            return action(api, options)
    except ApiError as error:
        return report(f"{error} [{error.code}]", REFUSED)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        return report(f"the server does not respond: {error}", UNAVAILABLE)
    except OSError as error:
        code = USAGE if isinstance(error, FileNotFoundError) else FAILED
        return report(f"cannot open {error.filename}: {error.strerror}", code)
    except ValueError as error:
        return report(str(error), USAGE)


# Processors and their jobs


def processors(api: Api, options: argparse.Namespace) -> int:
    print("\n".join(api.json("GET", "/processor")))
    return 0


def processor(api: Api, options: argparse.Namespace) -> int:
    return _show(api.json("GET", f"/processor/info/{options.name}"))


def run(api: Api, options: argparse.Namespace) -> int:
    body: dict[str, Any] = {
        "path_to_mets": options.mets,
        "workspace_id": options.workspace,
        "input_file_grps": options.input.split(","),
        "output_file_grps": options.output.split(",") if options.output else None,
        "page_id": options.page_id,
        "parameters": _parameters(options),
        "depends_on": options.depends_on,
        "result_queue_name": options.result_queue,
        "callback_url": options.callback_url,
    }
    body = {name: value for name, value in body.items() if value not in (None, [])}
    job = api.json("POST", f"/processor/run/{options.name}", json=body)
    print(job["job_id"], flush=True)
    if not options.block:
        return 0
    return _print_end(_wait(api, f"/processor/job/{job['job_id']}"))


def _parameters(options: argparse.Namespace) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for text in options.parameters:
        try:
            part = json.loads(text)
        except ValueError:
            part = None
        if not isinstance(part, dict):
            raise ValueError(f"-p must be a JSON object, not {text!r}")  # noqa: TRY004
        parameters.update(part)
    for name, value in options.parameter:
        try:
            parameters[name] = json.loads(value)
        except ValueError:
            parameters[name] = value
    return parameters


def _wait(api: Api, path: str) -> dict[str, Any]:
    """Polls a job or a run until its state is final, and returns it."""
    pause = 0.1
    while True:
        job: dict[str, Any] = api.json("GET", path)
        if job["state"] in _FINAL:
            return job
        time.sleep(pause)
        pause = min(5.0, pause * 1.5)


def _print_end(job: dict[str, Any]) -> int:
    """Prints the final state and the error. Returns the exit code."""
    reason = f": {job['error']} [{job.get('error_code')}]" if job.get("error") else ""
    print(f"{job['state']}{reason}", file=sys.stderr)
    return 0 if job["state"] == "SUCCESS" else FAILED


def status(api: Api, options: argparse.Namespace) -> int:
    job = api.json("GET", f"/processor/job/{options.id}")
    print("\t".join(filter(None, (job["state"], job.get("error"), job.get("waiting")))))
    return 0


def log(api: Api, options: argparse.Namespace) -> int:
    seen = 0
    while True:
        ended = not options.follow or _state(api, options.id) in _FINAL
        headers = {"Range": f"bytes={seen}-"}
        response = api.http.get(f"/processor/log/{options.id}", headers=headers)
        if response.status_code != 416:  # 416: the log has not grown
            _check(response)
            content = response.content
            new = content if response.status_code == 206 else content[seen:]
            seen += len(new)
            sys.stdout.buffer.write(new)
            sys.stdout.flush()
        if ended:
            return 0
        time.sleep(1)


def _state(api: Api, job_id: str) -> str:
    return str(api.json("GET", f"/processor/job/{job_id}")["state"])


def cancel(api: Api, options: argparse.Namespace) -> int:
    print(api.json("DELETE", f"/processor/job/{options.id}")["state"])
    return 0


def results(api: Api, options: argparse.Namespace) -> int:
    queue = f"/result_queue/{options.name}"
    wait = _WAIT_SECONDS if options.follow else 0
    while True:
        messages = api.json("GET", queue, params={"wait": wait})
        for message in messages:
            receipt = message.pop("receipt")
            print(json.dumps(message), flush=True)
        if messages:
            api.request("DELETE", f"{queue}/{receipt}")
        elif not options.follow:
            return 0


# Workflows


def upload(api: Api, options: argparse.Namespace) -> int:
    files = {"workflow": options.file.read_bytes()}
    print(api.json("POST", "/workflow", files=files)["workflow_id"])
    return 0


def show_workflow(api: Api, options: argparse.Namespace) -> int:
    print(api.request("GET", f"/workflow/{options.id}").text, end="")
    return 0


def run_workflow(api: Api, options: argparse.Namespace) -> int:
    file = Path(options.workflow)
    upload: dict[str, Any] = {"files": {"workflow": file.read_bytes()}} if file.is_file() else {}
    query = {
        "mets_path": options.mets,
        "workspace_id": options.workspace,
        "workflow_id": None if upload else options.workflow,
        "page_id": options.page_id,
        "page_wise": options.page_wise,
        "workflow_callback_url": options.callback_url,
    }
    query = {name: value for name, value in query.items() if value is not None}
    run_id = api.json("POST", "/workflow/run", params=query, **upload)["job_id"]
    print(run_id, flush=True)
    return _print_end(_wait(api, f"/workflow/job-simple/{run_id}")) if options.block else 0


def workflow_status(api: Api, options: argparse.Namespace) -> int:
    state = api.json("GET", f"/workflow/job-simple/{options.id}")
    return _show({**state, "jobs": api.json("GET", f"/workflow/job/{options.id}")})


def cancel_workflow(api: Api, options: argparse.Namespace) -> int:
    api.request("DELETE", f"/workflow/job/{options.id}")
    return 0


# Workspaces


def workspaces(api: Api, options: argparse.Namespace) -> int:
    for row in api.json("GET", "/workspace"):
        print("\t".join((row["workspace_id"], row["path_to_mets"], row.get("description", ""))))
    return 0


def create(api: Api, options: argparse.Namespace) -> int:
    if options.source.startswith(("http://", "https://")):
        body = {"mets_url": options.source, "preserve_file_grps": options.groups}
        workspace = api.json("POST", "/workspace", json=body)
    else:
        with _archive(Path(options.source)) as files:
            workspace = api.json("POST", "/workspace", files=files)
    print(workspace["workspace_id"])
    return 0


@contextmanager
def _archive(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        yield {"workspace": (path.name, file)}


def get(api: Api, options: argparse.Namespace) -> int:
    target = options.output or Path(f"{options.id}.ocrd.zip")
    part = target.with_name(f".{target.name}.part")
    with api.http.stream("GET", f"/workspace/{options.id}") as response:
        if response.is_error:
            response.read()
            _check(response)
        with part.open("wb") as file:
            file.writelines(response.iter_bytes(_CHUNK_BYTES))
    part.replace(target)
    print(target)
    return 0


def show_workspace(api: Api, options: argparse.Namespace) -> int:
    accept = {"Accept": "application/json"}
    return _show(api.json("GET", f"/workspace/{options.id}", headers=accept))


def replace(api: Api, options: argparse.Namespace) -> int:
    with _archive(options.file) as files:
        return _show(api.json("PUT", f"/workspace/{options.id}", files=files))


def delete(api: Api, options: argparse.Namespace) -> int:
    api.request("DELETE", f"/workspace/{options.id}")
    return 0


def _show(value: Any) -> int:
    print(json.dumps(value, indent=2, ensure_ascii=False))
    return 0
