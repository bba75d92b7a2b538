"""The `ocr-tasks` command line: the list of subcommands and the entry point."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Collection, Iterator, Sequence

from ocr_tasks import errors, extensions
from ocr_tasks.exits import INTERRUPTED, UNAVAILABLE, USAGE, report

#: For each command: the help text, and the function in `ocr_tasks.commands` that fills its parser.
#: Only the module of the command that is called is imported, because client commands must work
#: without the server's packages.
_COMMANDS = {
    "up": ("run Redis, a worker and the web server", "servers.up"),
    "worker": ("run a worker", "servers.worker"),
    "web": ("run the web server", "servers.web"),
    "courier": (
        "run the webhook sender (needed if OCR_SEND_WEBHOOKS=false)",
        "servers.courier",
    ),
    "sweep": (
        "delete expired files, and files that belong to no job",
        "servers.sweep",
    ),
    "webhooks": ("print the secrets that webhooks are signed with", "servers.webhooks"),
    "ocr": ("run OCR on a document and write a searchable PDF", "ocr.fill"),
    "submit": ("run OCR on many documents, several at a time", "submit.fill"),
    "watch": ("run OCR on documents as they appear in a folder", "watch.fill"),
    "flower": ("run Flower, Celery's dashboard", "flower.fill"),
    "tokens": ("create, list and revoke API tokens", "tokens.fill"),
}


def _commands() -> dict[str, tuple[str, str]]:
    """Returns help text and parser function of all commands, including those of extensions."""
    own = {name: (text, f"ocr_tasks.commands.{place}") for name, (text, place) in _COMMANDS.items()}
    return own | {k: v for one in extensions.installed() for k, v in one.commands.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code. `arguments` default to those of the process."""
    argv = sys.argv[1:] if arguments is None else arguments
    # Shells start background commands with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        name = next((word for word in argv if not word.startswith("-")), "")
        options = _parser({name}).parse_args(argv)
        code: int = options.run(options)
    except errors.SettingsError as error:
        return report(str(error), USAGE)
    except errors.QueueUnavailable as error:
        hint = "Is `ocr-tasks up` running, with the same OCR_DATA_DIR or OCR_REDIS_URL?"
        return report(f"{error.title}. {hint}", UNAVAILABLE)
    except ModuleNotFoundError as error:
        if importlib.util.find_spec("celery"):  # the server is installed
            raise
        install = "pip install 'ocr-tasks[server]'"
        return report(f"this command needs the server's packages: {install} ({error})", USAGE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the pipe (e.g. `head`) has exited. Python flushes stdout at exit, and would
        # raise the error again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    return code


def _parser(selected: Collection[str]) -> argparse.ArgumentParser:
    """Returns the parser. Only the selected commands get their arguments."""
    parser = argparse.ArgumentParser(prog="ocr-tasks", description="A self-hosted OCR service.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (help_text, target) in _commands().items():
        command = commands.add_parser(name, help=help_text)
        if name in selected:
            module, _, function = target.rpartition(".")
            getattr(importlib.import_module(module), function)(command)
    return parser


def describe() -> dict[str, list[tuple[str, str]]]:
    """Returns the arguments of each subcommand and their help texts, for the documentation."""
    return dict(_describe(_parser(_commands()), ""))


def _describe(
    parser: argparse.ArgumentParser, prefix: str
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    subcommands = next(
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    )
    helps = {choice.dest: choice.help or "" for choice in subcommands._choices_actions}
    for name, command in subcommands.choices.items():
        if command._subparsers:
            yield from _describe(command, f"{prefix}{name} ")
            continue
        yield (
            f"{prefix}{name}: {helps[name]}",
            [
                (", ".join(action.option_strings) or str(action.metavar), action.help or "")
                for action in command._actions
            ],
        )


if __name__ == "__main__":
    sys.exit(main())
