"""The `ocr-tasks` command."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence

from ocr_tasks import errors, redis_client, settings
from ocr_tasks.commands import flower, ocr, ocrd, swarm, tokens
from ocr_tasks.commands.exits import INTERRUPTED, UNAVAILABLE, USAGE, complain

_PROCESSORS = "offer these OCR-D processors, and read no documents (default: OCR_PROCESSORS)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and gives its exit code."""
    options = _parser().parse_args(arguments)
    # A shell that starts a command in the background has it ignore Ctrl-C; ours always listens.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code: int = options.run(options)
    except settings.SettingsError as error:
        return complain(str(error), USAGE)
    except errors.QueueUnavailable as error:
        hint = "Is `ocr-tasks up` running, with the same OCR_DATA_DIR or OCR_REDIS_URL?"
        return complain(f"{error.title}. {hint}", UNAVAILABLE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # `… | head` has read enough. What Python still wants to write at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
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

    courier = commands.add_parser(
        "courier", help="send webhooks, where workers do not (OCR_SEND_WEBHOOKS=false)"
    )
    courier.set_defaults(run=_courier)

    sweep = commands.add_parser(
        "sweep", help="delete what has been kept long enough, and what belongs to no job"
    )
    sweep.set_defaults(run=_sweep)

    webhooks = commands.add_parser("webhooks", help="print the secrets that sign webhooks")
    webhooks.set_defaults(run=_webhooks)

    for group in (ocr, flower, tokens, swarm, ocrd):
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
        return complain(str(error), UNAVAILABLE)
    except OSError as error:
        where = f"{config.host}:{config.port} ({error.strerror})"
        return complain(f"cannot listen on {where}; set OCR_HOST or OCR_PORT", UNAVAILABLE)
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
        complain(warning, 0)
    # gunicorn takes this process over; `web` is named and not imported, as nothing here knows it.
    command = [sys.executable, "-m", "gunicorn", "--config", "python:web.server"]
    os.environ["OCR_DATA_DIR"] = str(config.data_dir)
    os.execv(sys.executable, [*command, "web.app:create_app()"])  # noqa: S606


def _courier(options: argparse.Namespace) -> int:
    from ocr_tasks import courier

    redis_client.check()
    return courier.main()


def _sweep(options: argparse.Namespace) -> int:
    from redis import RedisError

    from ocr_tasks import errors, retention

    swept = retention.Swept()
    try:
        retention.expire(swept)
        retention.sweep(swept)
    except (RedisError, errors.ServiceError) as error:
        return complain(f"{error}", UNAVAILABLE)
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
        return complain(f"{error}", UNAVAILABLE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
