"""`ocr-tasks ocrd …`: processors, workflows and workspaces of a server, over its OCR-D Web API."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ocr_tasks.client import environment
from ocr_tasks.commands import ocrd_calls as calls

if TYPE_CHECKING:
    Subcommands = argparse._SubParsersAction[argparse.ArgumentParser]


def fill(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `ocrd` with its own commands."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    _add(actions, "processors", "list the processors that can be run", calls.processors)
    one = _add(
        actions, "processor", "show what a processor is, and its parameters", calls.processor
    )
    one.add_argument("name", metavar="NAME", help="such as ocrd-dummy")
    _add_run(actions)
    status = _add(actions, "status", "show the state of a job", calls.status)
    log = _add(actions, "log", "show what the processor of a job has said", calls.log)
    log.add_argument("--follow", action="store_true", help="go on until the job has ended")
    cancel = _add(actions, "cancel", "cancel a job, and those that depend on it", calls.cancel)
    for command in (status, log, cancel):
        command.add_argument("id", metavar="ID", help="as `run` has printed it")
    results = _add(actions, "results", "take the messages of a result queue", calls.results)
    results.add_argument("name", metavar="NAME", help="as --result-queue of runs had it")
    results.add_argument("--follow", action="store_true", help="wait for more")
    _add_workflow(actions)
    _add_workspace(actions)


def _add(
    actions: Subcommands, name: str, meaning: str, act: calls.Action
) -> argparse.ArgumentParser:
    command = actions.add_parser(name, help=meaning)
    command.add_argument(
        "--url",
        default=environment.url(),
        help=f"server to use (OCR_URL, or at OCR_PORT; default {environment.DEFAULT_URL}); "
        "the token is in OCR_TOKEN",
    )
    command.set_defaults(run=lambda options: calls.act(act, options))
    return command


def _add_run(actions: Subcommands) -> None:
    run = _add(
        actions, "run", "run a processor on a workspace; prints the id of the job", calls.run
    )
    run.add_argument("name", metavar="NAME", help="such as ocrd-dummy")
    _add_target(run)
    run.add_argument("-I", "--input", required=True, metavar="GROUPS", help="joined by commas")
    run.add_argument("-O", "--output", default="", metavar="GROUPS", help="joined by commas")
    run.add_argument(
        "-p", "--parameters", action="append", default=[], metavar="JSON", help="an object of them"
    )
    run.add_argument(
        "-P",
        "--parameter",
        action="append",
        default=[],
        nargs=2,
        metavar=("NAME", "VALUE"),
        help="one parameter; JSON, or else a text",
    )
    run.add_argument(
        "--depends-on",
        action="append",
        default=[],
        metavar="ID",
        help="job that must succeed first",
    )
    run.add_argument("--result-queue", metavar="NAME", help="where a message waits at the end")


def _add_target(command: argparse.ArgumentParser) -> None:
    target = command.add_mutually_exclusive_group(required=True)
    target.add_argument("-w", "--workspace", metavar="ID", help="id of a workspace")
    target.add_argument("-m", "--mets", metavar="PATH", help="METS file, as the server has it")
    command.add_argument(
        "-g", "--page-id", metavar="PAGES", help="such as P1,P5..P9 (default: all)"
    )
    command.add_argument("--callback-url", metavar="URL", help="is told how it ended")
    command.add_argument(
        "--block", action="store_true", help="wait for the end; exit 70 unless it is SUCCESS"
    )


def _add_workflow(actions: Subcommands) -> None:
    group = actions.add_parser("workflow", help="store and run workflows")
    deeper = group.add_subparsers(required=True, metavar="ACTION")
    upload = _add(deeper, "upload", "store a workflow; prints its id", calls.upload)
    upload.add_argument("file", type=Path, metavar="FILE", help="a task of `ocrd process` a line")
    show = _add(deeper, "show", "show the text of a workflow", calls.show_workflow)
    show.add_argument("id", metavar="ID", help="as `upload` has printed it")
    run = _add(deeper, "run", "run a workflow; prints the id of the run", calls.run_workflow)
    run.add_argument("workflow", metavar="FILE-or-ID", help="a file here, or a stored workflow")
    _add_target(run)
    run.add_argument("--page-wise", action="store_true", help="each page on its own")
    status = _add(deeper, "status", "show how far a run is", calls.workflow_status)
    cancel = _add(deeper, "cancel", "cancel a run", calls.cancel_workflow)
    for command in (status, cancel):
        command.add_argument("id", metavar="ID", help="as `workflow run` has printed it")


def _add_workspace(actions: Subcommands) -> None:
    group = actions.add_parser("workspace", help="send, fetch and delete workspaces")
    deeper = group.add_subparsers(required=True, metavar="ACTION")
    _add(deeper, "list", "list workspaces", calls.workspaces)
    create = _add(deeper, "create", "make a workspace; prints its id", calls.create)
    create.add_argument("source", metavar="FILE-or-URL", help="an OCRD-ZIP, or a METS file's URL")
    create.add_argument(
        "--groups", metavar="GROUPS", help="of a URL: file groups to fetch, joined by commas"
    )
    get = _add(deeper, "get", "fetch a workspace as an OCRD-ZIP", calls.get)
    get.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: ID.ocrd.zip")
    show = _add(deeper, "show", "show where a workspace is", calls.show_workspace)
    replace = _add(deeper, "replace", "replace a workspace by an OCRD-ZIP", calls.replace)
    delete = _add(deeper, "delete", "delete a workspace", calls.delete)
    for command in (get, show, replace, delete):
        command.add_argument("id", metavar="ID", help="as `create` has printed it")
    replace.add_argument("file", type=Path, metavar="FILE", help="an OCRD-ZIP")
