"""What `ocr-tasks ocrd …` does: each action of its command line, over OCR-D's Web API."""

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
from ocr_tasks.commands.exits import FAILED, REFUSED, UNAVAILABLE, USAGE, complain

_FINAL = ("SUCCESS", "FAILED", "CANCELLED")
_WAIT_SECONDS = 20
_PIECE_BYTES = 1 << 20


class Api:
    """OCR-D's Web API of a server."""

    def __init__(self, url: str, token: str) -> None:
        self.http = httpx.Client(
            base_url=f"{url.rstrip('/')}/ocrd",
            # Looking into a workspace, and packing one, takes its time.
            timeout=httpx.Timeout(60, read=600),
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )

    def ask(self, method: str, address: str, **sent: Any) -> httpx.Response:
        """An answer that is no refusal."""
        answer = self.http.request(method, address, **sent)
        _check(answer)
        return answer

    def json(self, method: str, address: str, **sent: Any) -> Any:
        return self.ask(method, address, **sent).json()


def _check(answer: httpx.Response) -> None:
    if answer.is_error:
        raise ApiError.of(answer.status_code, answer.headers, answer.content)


#: Does what a command line says and gives the exit code.
Action = Callable[[Api, argparse.Namespace], int]


def act(action: Action, options: argparse.Namespace) -> int:
    """Talks to the server that a command line names, and gives the exit code."""
    api = Api(options.url, environment.token())
    try:
        with api.http:
            return action(api, options)
    except ApiError as error:
        return complain(f"{error} [{error.code}]", REFUSED)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        return complain(f"the server does not answer: {error}", UNAVAILABLE)
    except OSError as error:
        return complain(str(error), FAILED)
    except ValueError as error:
        return complain(str(error), USAGE)


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
    asked = {name: value for name, value in body.items() if value not in (None, [])}
    job = api.json("POST", f"/processor/run/{options.name}", json=asked)
    print(job["job_id"], flush=True)
    if not options.block:
        return 0
    return _told(_wait(api, f"/processor/job/{job['job_id']}"))


def _parameters(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in options.parameters:
        part = json.loads(text)
        if not isinstance(part, dict):
            raise ValueError(f"-p takes a JSON object, not {text!r}")  # noqa: TRY004
        found.update(part)
    for name, value in options.parameter:
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _wait(api: Api, address: str) -> dict[str, Any]:
    """What is at an address when its state is final."""
    pause = 0.1
    while True:
        found: dict[str, Any] = api.json("GET", address)
        if found["state"] in _FINAL:
            return found
        time.sleep(pause)
        pause = min(5.0, pause * 1.5)


def _told(found: dict[str, Any]) -> int:
    """Says the state of what has ended, and is good only if that is."""
    reason = f": {found['error']} [{found.get('error_code')}]" if found.get("error") else ""
    print(f"{found['state']}{reason}", file=sys.stderr)
    return 0 if found["state"] == "SUCCESS" else FAILED


def status(api: Api, options: argparse.Namespace) -> int:
    job = api.json("GET", f"/processor/job/{options.id}")
    print("\t".join(filter(None, (job["state"], job.get("error")))))
    return 0


def log(api: Api, options: argparse.Namespace) -> int:
    seen = 0
    while True:
        ended = not options.follow or _state(api, options.id) in _FINAL
        answer = api.http.get(f"/processor/log/{options.id}", headers={"Range": f"bytes={seen}-"})
        if answer.status_code != 416:  # there is no more yet
            _check(answer)
            new = answer.content if answer.status_code == 206 else answer.content[seen:]
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
    wait = _WAIT_SECONDS if options.follow else 0
    while True:
        for message in api.json("GET", f"/result_queue/{options.name}", params={"wait": wait}):
            print(json.dumps(message), flush=True)
        if not options.follow:
            return 0


# Workflows


def upload(api: Api, options: argparse.Namespace) -> int:
    files = {"workflow": options.file.read_bytes()}
    print(api.json("POST", "/workflow", files=files)["workflow_id"])
    return 0


def show_workflow(api: Api, options: argparse.Namespace) -> int:
    print(api.ask("GET", f"/workflow/{options.id}").text, end="")
    return 0


def run_workflow(api: Api, options: argparse.Namespace) -> int:
    file = Path(options.workflow)
    sent: dict[str, Any] = {"files": {"workflow": file.read_bytes()}} if file.is_file() else {}
    query = {
        "mets_path": options.mets,
        "workspace_id": options.workspace,
        "workflow_id": None if sent else options.workflow,
        "page_id": options.page_id,
        "page_wise": options.page_wise,
        "workflow_callback_url": options.callback_url,
    }
    asked = {name: value for name, value in query.items() if value is not None}
    run = api.json("POST", "/workflow/run", params=asked, **sent)["job_id"]
    print(run, flush=True)
    return _told(_wait(api, f"/workflow/job-simple/{run}")) if options.block else 0


def workflow_status(api: Api, options: argparse.Namespace) -> int:
    state = api.json("GET", f"/workflow/job-simple/{options.id}")
    return _show({**state, "jobs": api.json("GET", f"/workflow/job/{options.id}")})


def cancel_workflow(api: Api, options: argparse.Namespace) -> int:
    api.ask("DELETE", f"/workflow/job/{options.id}")
    return 0


# Workspaces


def workspaces(api: Api, options: argparse.Namespace) -> int:
    for row in api.json("GET", "/workspace"):
        print("\t".join((row["workspace_id"], row["path_to_mets"], row.get("description", ""))))
    return 0


def create(api: Api, options: argparse.Namespace) -> int:
    if options.source.startswith(("http://", "https://")):
        asked = {"mets_url": options.source, "preserve_file_grps": options.groups}
        made = api.json("POST", "/workspace", json=asked)
    else:
        with _archive(Path(options.source)) as files:
            made = api.json("POST", "/workspace", files=files)
    print(made["workspace_id"])
    return 0


@contextmanager
def _archive(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        yield {"workspace": (path.name, file)}


def get(api: Api, options: argparse.Namespace) -> int:
    target = options.output or Path(f"{options.id}.ocrd.zip")
    part = target.with_name(f".{target.name}.part")
    with api.http.stream("GET", f"/workspace/{options.id}") as answer:
        if answer.is_error:
            answer.read()
            _check(answer)
        with part.open("wb") as file:
            file.writelines(answer.iter_bytes(_PIECE_BYTES))
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
    api.ask("DELETE", f"/workspace/{options.id}")
    return 0


def _show(found: Any) -> int:
    print(json.dumps(found, indent=2, ensure_ascii=False))
    return 0
