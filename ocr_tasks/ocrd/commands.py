"""`ocr-tasks ocrd …`: processors, workflows and workspaces of a server, via its OCR-D Web API."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ocr_tasks import argument_types
from ocr_tasks.client import environment
from ocr_tasks.ocrd import calls

if TYPE_CHECKING:
    Subcommands = argparse._SubParsersAction[argparse.ArgumentParser]


def fill(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `ocrd` with its subcommands."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    _add(actions, "processors", "list the available processors", calls.processors)
    info = _add(actions, "processor", "describe a processor and its parameters", calls.processor)
    info.add_argument("name", metavar="NAME", help="e.g. ocrd-dummy")
    _add_run(actions)
    status = _add(actions, "status", "show the state of a job", calls.status)
    log = _add(actions, "log", "show the log of a job's processor", calls.log)
    log.add_argument("--follow", action="store_true", help="continue until the job ends")
    cancel = _add(actions, "cancel", "cancel a job and the jobs that depend on it", calls.cancel)
    for command in (status, log, cancel):
        command.add_argument("id", metavar="ID", help="job id printed by `run`")
    results = _add(
        actions, "results", "print and acknowledge messages of a result queue", calls.results
    )
    results.add_argument("name", metavar="NAME", help="name given to --result-queue")
    results.add_argument("--follow", action="store_true", help="wait for more messages")
    _add_workflow(actions)
    _add_workspace(actions)


def _add(
    actions: Subcommands, name: str, help_text: str, action: calls.Action
) -> argparse.ArgumentParser:
    command = actions.add_parser(name, help=help_text)
    command.add_argument(
        "--url",
        type=argument_types.url,
        default=environment.url(),
        help="URL of the server (default: OCR_URL, or port OCR_PORT on this machine, or "
        f"{environment.DEFAULT_URL}); "
        "the token is read from OCR_TOKEN",
    )
    command.set_defaults(run=lambda options: calls.act(action, options))
    return command


def _add_run(actions: Subcommands) -> None:
    run = _add(actions, "run", "run a processor on a workspace and print the job id", calls.run)
    run.add_argument("name", metavar="NAME", help="e.g. ocrd-dummy")
    _add_target(run)
    run.add_argument(
        "-I",
        "--input",
        required=True,
        metavar="GROUPS",
        help="comma-separated input file groups",
    )
    run.add_argument(
        "-O", "--output", default="", metavar="GROUPS", help="comma-separated output file groups"
    )
    run.add_argument(
        "-p",
        "--parameters",
        action="append",
        default=[],
        metavar="JSON",
        help="parameters as a JSON object; repeatable",
    )
    run.add_argument(
        "-P",
        "--parameter",
        action="append",
        default=[],
        nargs=2,
        metavar=("NAME", "VALUE"),
        help="one parameter; a value that is not JSON is a string; repeatable",
    )
    run.add_argument(
        "--depends-on",
        action="append",
        default=[],
        metavar="ID",
        help="job that must succeed first; repeatable",
    )
    run.add_argument(
        "--result-queue", metavar="NAME", help="queue that gets a message when the job ends"
    )


def _add_target(command: argparse.ArgumentParser) -> None:
    target = command.add_mutually_exclusive_group(required=True)
    target.add_argument("-w", "--workspace", metavar="ID", help="id of a workspace")
    target.add_argument("-m", "--mets", metavar="PATH", help="path of a METS file on the server")
    command.add_argument(
        "-g", "--page-id", metavar="PAGES", help="e.g. P1,P5..P9 (default: all pages)"
    )
    command.add_argument(
        "--callback-url", metavar="URL", help="URL that is notified when the job ends"
    )
    command.add_argument(
        "--block",
        action="store_true",
        help="wait until the job ends; the exit code is 70 unless it succeeds",
    )


def _add_workflow(actions: Subcommands) -> None:
    group = actions.add_parser("workflow", help="store and run workflows")
    subactions = group.add_subparsers(required=True, metavar="ACTION")
    upload = _add(subactions, "upload", "store a workflow and print its id", calls.upload)
    upload.add_argument("file", type=Path, metavar="FILE", help="one `ocrd process` task per line")
    show = _add(subactions, "show", "show the text of a workflow", calls.show_workflow)
    show.add_argument("id", metavar="ID", help="workflow id printed by `upload`")
    run = _add(subactions, "run", "run a workflow and print the id of the run", calls.run_workflow)
    run.add_argument(
        "workflow", metavar="FILE-or-ID", help="local file, or id of a stored workflow"
    )
    _add_target(run)
    run.add_argument("--page-wise", action="store_true", help="process each page separately")
    status = _add(subactions, "status", "show the progress of a run", calls.workflow_status)
    cancel = _add(subactions, "cancel", "cancel a run", calls.cancel_workflow)
    for command in (status, cancel):
        command.add_argument("id", metavar="ID", help="run id printed by `workflow run`")


def _add_workspace(actions: Subcommands) -> None:
    group = actions.add_parser("workspace", help="upload, download and delete workspaces")
    subactions = group.add_subparsers(required=True, metavar="ACTION")
    _add(subactions, "list", "list workspaces", calls.workspaces)
    create = _add(subactions, "create", "create a workspace and print its id", calls.create)
    create.add_argument(
        "source", metavar="FILE-or-URL", help="OCRD-ZIP file, or URL of a METS file"
    )
    create.add_argument(
        "--groups", metavar="GROUPS", help="with a URL: comma-separated file groups to download"
    )
    get = _add(subactions, "get", "download a workspace as an OCRD-ZIP", calls.get)
    get.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: ID.ocrd.zip")
    show = _add(subactions, "show", "show the path of a workspace", calls.show_workspace)
    replace = _add(subactions, "replace", "replace a workspace with an OCRD-ZIP", calls.replace)
    delete = _add(subactions, "delete", "delete a workspace", calls.delete)
    for command in (get, show, replace, delete):
        command.add_argument("id", metavar="ID", help="workspace id printed by `create`")
    replace.add_argument("file", type=Path, metavar="FILE", help="OCRD-ZIP file")
