"""The `ocr-tasks` command: an index of its commands."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Collection, Iterator, Sequence

from ocr_tasks import errors
from ocr_tasks.commands.exits import INTERRUPTED, UNAVAILABLE, USAGE, complain

#: What each command is for, and the function of `ocr_tasks.commands` that fills its parser. Only
#: the module of the command that is wanted is loaded: where the packages of the server are not
#: installed, the clients work all the same.
_COMMANDS = {
    "up": ("run everything: Redis, a worker, the web server", "servers.up"),
    "worker": ("run a worker", "servers.worker"),
    "web": ("run the web server", "servers.web"),
    "courier": (
        "send webhooks, where workers do not (OCR_SEND_WEBHOOKS=false)",
        "servers.courier",
    ),
    "sweep": (
        "delete what has been kept long enough, and what belongs to no job",
        "servers.sweep",
    ),
    "webhooks": ("print the secrets that sign webhooks", "servers.webhooks"),
    "ocr": ("read a document and write a searchable PDF", "ocr.fill"),
    "submit": ("read many documents, several at a time", "submit.fill"),
    "watch": ("read the documents that are put into a folder", "watch.fill"),
    "flower": ("run Flower, Celery's dashboard", "flower.fill"),
    "tokens": ("make, list and revoke API tokens", "tokens.fill"),
    "swarm": ("have page images read by many devices", "swarm.fill"),
    "ocrd": ("run processors and workflows of OCR-D on a server", "ocrd.fill"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and gives its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    # A shell that starts a command in the background has it ignore Ctrl-C; ours always listens.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        wanted = next((word for word in words if not word.startswith("-")), "")
        options = _parser({wanted}).parse_args(words)
        code: int = options.run(options)
    except errors.SettingsError as error:
        return complain(str(error), USAGE)
    except errors.QueueUnavailable as error:
        hint = "Is `ocr-tasks up` running, with the same OCR_DATA_DIR or OCR_REDIS_URL?"
        return complain(f"{error.title}. {hint}", UNAVAILABLE)
    except ModuleNotFoundError as error:
        if importlib.util.find_spec("celery"):  # the server is installed
            raise
        install = "pip install 'ocr-tasks[server]'"
        return complain(f"this command needs the server's packages: {install} ({error})", USAGE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # `… | head` has read enough. What Python still wants to write at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    return code


def _parser(wanted: Collection[str]) -> argparse.ArgumentParser:
    """The parser, in which the commands that are wanted are described in full."""
    parser = argparse.ArgumentParser(prog="ocr-tasks", description="A self-hosted OCR service.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (meaning, place) in _COMMANDS.items():
        command = commands.add_parser(name, help=meaning)
        if name in wanted:
            module, _, function = place.partition(".")
            getattr(importlib.import_module(f"ocr_tasks.commands.{module}"), function)(command)
    return parser


def describe() -> dict[str, list[tuple[str, str]]]:
    """Each subcommand's arguments and what they mean, for the documentation."""
    return dict(_describe(_parser(_COMMANDS), ""))


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


if __name__ == "__main__":
    sys.exit(main())
