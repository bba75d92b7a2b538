"""The `ocr-tasks` command."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ocr_tasks import errors, redis_client, settings
from ocr_tasks.client import ApiError, Client, connected
from ocr_tasks.commands import ocrd, swarm, tokens

#: Exit codes, after sysexits.h where it has one.
EXIT_USAGE = 2
EXIT_REFUSED = 65
EXIT_UNAVAILABLE = 69
EXIT_FAILED = 70
EXIT_INTERRUPTED = 130

START_SECONDS = 90
_PROCESSORS = "offer these OCR-D processors, and read no documents (default: OCR_PROCESSORS)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and gives its exit code."""
    options = _parser().parse_args(arguments)
    # A shell that starts a command in the background has it ignore Ctrl-C; ours always listens.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code: int = options.run(options)
    except settings.SettingsError as error:
        return _complain(str(error), EXIT_USAGE)
    except errors.QueueUnavailable as error:
        hint = "Is `ocr-tasks up` running, with the same OCR_DATA_DIR or OCR_REDIS_URL?"
        return _complain(f"{error.title}. {hint}", EXIT_UNAVAILABLE)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # `… | head` has read enough. What Python still wants to write at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ocr-tasks", description="A self-hosted OCR service.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="run everything: Redis, a worker, the web server")
    up.set_defaults(run=_up)

    worker = commands.add_parser("worker", help="run a worker")
    worker.add_argument("--processors", metavar="NAMES", help=_PROCESSORS)
    worker.set_defaults(run=_worker)

    web = commands.add_parser("web", help="run the web server")
    web.set_defaults(run=_web)

    sweep = commands.add_parser(
        "sweep", help="delete what has been kept long enough, and what belongs to no job"
    )
    sweep.set_defaults(run=_sweep)

    webhooks = commands.add_parser("webhooks", help="print the secrets that sign webhooks")
    webhooks.set_defaults(run=_webhooks)

    ocr = commands.add_parser("ocr", help="read a document and write a searchable PDF")
    ocr.add_argument("files", nargs="+", type=Path, metavar="FILE", help="several become one PDF")
    ocr.add_argument("-o", "--output", type=Path, help="default: FILE-ocr.pdf beside the first")
    ocr.add_argument("--text", type=Path, metavar="FILE", help="write the text as well")
    ocr.add_argument("-l", "--languages", help="such as deu+eng")
    ocr.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any option of GET /v1/options, such as deskew=true; may be repeated",
    )
    ocr.add_argument(
        "--url",
        default=settings.client_url(),
        help=f"server to use (OCR_URL, default {settings.DEFAULT_URL}), with the token in "
        "OCR_TOKEN if that is set; if none answers there, one is started for this document",
    )
    ocr.set_defaults(run=_ocr)

    for group in (tokens, swarm, ocrd):
        group.add_to(commands)
    return parser


def describe() -> dict[str, list[tuple[str, str]]]:
    """Each subcommand's arguments and what they mean, for the documentation."""
    return dict(_describe(_parser(), ""))


def _describe(
    parser: argparse.ArgumentParser, before: str
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    subcommands = next(
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    )
    helps = {choice.dest: choice.help or "" for choice in subcommands._choices_actions}
    for name, command in subcommands.choices.items():
        if command._subparsers:
            yield from _describe(command, f"{before}{name} ")
            continue
        yield (
            f"{before}{name}: {helps[name]}",
            [
                (", ".join(action.option_strings) or str(action.metavar), action.help or "")
                for action in command._actions
            ],
        )


# Servers


def _up(options: argparse.Namespace) -> int:
    from ocr_tasks.supervisor import StartError, Supervisor, say

    config = settings.get()
    environment = {**os.environ, "OCR_DATA_DIR": str(config.data_dir), "OCR_PROCESSORS": ""}
    supervisor = Supervisor(config, environment)
    try:
        _check_free(config.host, config.port)
        with supervisor.running():
            say(f"http://{config.host}:{config.port}  (Ctrl-C ends it)")
            supervisor.watch()
            say("stopping")
    except StartError as error:
        return _complain(str(error), EXIT_UNAVAILABLE)
    except OSError as error:
        where = f"{config.host}:{config.port} ({error.strerror})"
        return _complain(f"cannot listen on {where}; set OCR_HOST or OCR_PORT", EXIT_UNAVAILABLE)
    say("stopped")
    return 0


def _check_free(host: str, port: int) -> None:
    """Fails early and clearly where gunicorn would try again and again."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def _worker(options: argparse.Namespace) -> int:
    if options.processors is not None:  # before anything reads the settings
        os.environ["OCR_PROCESSORS"] = options.processors
    from ocr_tasks import worker

    redis_client.check()
    return worker.main()


def _web(options: argparse.Namespace) -> int:
    config = settings.get()
    redis_client.check()
    for warning in tokens.warnings(config):
        _complain(warning, 0)
    # gunicorn takes this process over; `web` is named and not imported, as nothing here knows it.
    command = [sys.executable, "-m", "gunicorn", "--config", "python:web.server"]
    os.environ["OCR_DATA_DIR"] = str(config.data_dir)
    os.execv(sys.executable, [*command, "web.app:create_app()"])  # noqa: S606


def _sweep(options: argparse.Namespace) -> int:
    from redis import RedisError

    from ocr_tasks import errors, retention

    swept = retention.Swept()
    try:
        retention.expire(swept)
        retention.sweep(swept)
    except (RedisError, errors.ServiceError) as error:
        return _complain(f"{error}", EXIT_UNAVAILABLE)
    print(
        f"Deleted {swept.inputs} inputs, {swept.results} results, {swept.jobs} jobs, "
        f"{swept.uploads} unfinished uploads and {swept.leftovers} leftovers: "
        f"{swept.bytes / settings.MIB:.1f} MiB. Restored {swept.restored} jobs."
    )
    return 0


def _webhooks(options: argparse.Namespace) -> int:
    from ocr_tasks import webhooks

    try:
        print("\n".join(webhooks.secret_texts()))
    except errors.ServiceError as error:
        return _complain(f"{error}", EXIT_UNAVAILABLE)
    return 0


# ocr


def _ocr(options: argparse.Namespace) -> int:
    for file in options.files:
        if not file.is_file():
            return _complain(f"there is no file {file}", EXIT_USAGE)
    try:
        fields = _fields(options)
    except ValueError as error:
        return _complain(str(error), EXIT_USAGE)
    output = options.output or options.files[0].with_name(f"{options.files[0].stem}-ocr.pdf")
    try:
        with _server(options.url) as client:
            return _read(client, options.files, fields, output, options.text)
    except ApiError as error:
        return _complain(f"{error} [{error.code}]", EXIT_REFUSED)
    except (httpx.TransportError, TimeoutError) as error:
        return _complain(f"the server does not answer: {error}", EXIT_UNAVAILABLE)
    except OSError as error:
        return _complain(f"cannot write the result: {error}", EXIT_FAILED)


def _fields(options: argparse.Namespace) -> dict[str, str | list[str]]:
    fields: dict[str, str | list[str]] = {}
    for pair in options.option:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--option takes NAME=VALUE, not {pair!r}")
        fields[name] = value
    if options.languages:
        fields["languages"] = options.languages.replace(",", "+").split("+")
    return fields


def _read(
    client: Client,
    files: list[Path],
    fields: dict[str, str | list[str]],
    output: Path,
    text: Path | None,
) -> int:
    job = client.submit(files, fields)
    try:
        with _bar(job["input"]["pages"]) as show:
            job = client.wait(job, show)
    except KeyboardInterrupt:
        client.cancel(job["id"])
        raise
    if job["state"] != "succeeded":
        error = job["error"]
        return _complain(f"{error['message']}. {error['advice']} [{error['code']}]", EXIT_FAILED)
    client.download(job["id"], "pdf", output)
    if text:
        client.download(job["id"], "text", text)
    for page in job["failed_pages"]:
        _complain(f"page {page['page']} keeps its image: {page['message']}", 0)
    print(output)
    return 0


@contextmanager
def _bar(pages: int) -> Iterator[Any]:
    """A progress bar on standard error."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("waiting", total=100)

        def show(job: dict[str, Any]) -> None:
            done = job["progress"]["pages_done"]
            stage = job["stage"] or job["state"]
            words = f"page {done} of {pages}" if stage == "ocr" else stage
            progress.update(task, completed=job["progress"]["percent"], description=words)

        yield show


@contextmanager
def _server(url: str) -> Iterator[Client]:
    """A client of the server at the address, or of one that runs for the time of the block.

    Raises:
        TimeoutError: if that one does not start.
    """
    with connected(url, settings.client_token()) as client:
        if client.alive():
            yield client
            return
    with tempfile.TemporaryDirectory(prefix="ocr-tasks-") as folder:
        port = _free_port()
        log = Path(folder) / "log"
        private = settings.WHO_MAY | {"OCR_TOKEN"}
        environment = {
            **{name: value for name, value in os.environ.items() if name not in private},
            **{"OCR_DATA_DIR": f"{folder}/data", "OCR_REDIS_URL": "", "OCR_HOST": "127.0.0.1"},
            **{"OCR_PORT": str(port), "OCR_WEB_PROCESSES": "1"},
        }
        command = [sys.executable, "-m", "ocr_tasks.cli", "up"]
        with log.open("wb") as words:
            stack = subprocess.Popen(command, env=environment, stdout=words, stderr=words)
        try:
            with connected(f"http://127.0.0.1:{port}") as client:
                _wait_until_ready(client, stack, log)
                yield client
        finally:
            stack.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                stack.wait(60)


def _wait_until_ready(client: Client, stack: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not client.ready():
        if stack.poll() is not None or time.monotonic() > deadline:
            raise TimeoutError(log.read_text(errors="replace")[-2000:].strip())
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _complain(text: str, code: int) -> int:
    print(f"ocr-tasks: {text}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
