"""`ocr-tasks up`, `worker`, `web`, …: commands that run the servers, and maintenance commands."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import socket
import sys

from ocr_tasks import extensions
from ocr_tasks.exits import UNAVAILABLE, report


def up(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `up`."""
    parser.set_defaults(run=_up)


def worker(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `worker`."""
    for option, (variable, metavar, text) in _worker_options().items():
        parser.add_argument(option, dest=variable, metavar=metavar, help=text)
    parser.set_defaults(run=_worker)


def _worker_options() -> dict[str, tuple[str, str, str]]:
    """Returns the options of extensions: variable, metavar and help text."""
    return {k: v for one in extensions.installed() for k, v in one.worker_options.items()}


def web(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `web`."""
    parser.set_defaults(run=_web)


def courier(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `courier`."""
    parser.set_defaults(run=_courier)


def sweep(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `sweep`."""
    parser.set_defaults(run=_sweep)


def webhooks(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `webhooks`."""
    parser.set_defaults(run=_webhooks)


def _up(options: argparse.Namespace) -> int:
    from ocr_tasks import settings
    from ocr_tasks.supervisor import StartError, Supervisor, say

    extensions.check_settings()
    config = settings.get()
    environment = {**os.environ, "OCR_DATA_DIR": str(config.data_dir)}
    supervisor = Supervisor(config, environment)
    gc.freeze()  # exiting is faster if the loaded modules are not searched for garbage
    if code := _check_shared_memory():
        return code
    try:
        _check_free(config.host, config.port)
        with supervisor.running():
            supervisor.watch()
            say("stopping")
    except StartError as error:
        return report(str(error), UNAVAILABLE)
    except OSError as error:
        endpoint = f"{config.host}:{config.port} ({error.strerror})"
        return report(f"cannot listen on {endpoint}; set OCR_HOST or OCR_PORT", UNAVAILABLE)
    say("stopped")
    return 0


def _check_free(host: str, port: int) -> None:
    """Raises OSError if the port is in use. gunicorn would only keep retrying."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def _check_shared_memory() -> int:
    """Returns 0, or reports an error and returns an exit code if a worker's pool cannot start."""
    try:
        multiprocessing.get_context("fork").Semaphore()
    except OSError as error:
        reason = f"cannot create a semaphore ({error.strerror})"
        advice = "workers need a writable /dev/shm with free space"
        return report(f"{reason}; {advice}", UNAVAILABLE)
    return 0


def _worker(options: argparse.Namespace) -> int:
    given = {variable: getattr(options, variable) for variable, *_ in _worker_options().values()}
    # These must be set before the settings are loaded.
    os.environ.update({name: value for name, value in given.items() if value is not None})
    gc.disable()  # loads faster, as modules are not garbage; `worker.main` enables it again
    from ocr_tasks.redis import connection
    from ocr_tasks.worker import main

    extensions.check_settings()
    connection.check()
    if code := _check_shared_memory():
        return code
    return main.main(documents=not any(given.values()))


def _web(options: argparse.Namespace) -> int:
    gc.disable()  # as in `_worker`; `web.server` enables it again
    from ocr_tasks import settings
    from ocr_tasks.commands import tokens
    from ocr_tasks.redis import connection

    extensions.check_settings()
    config = settings.get()
    connection.check()
    for warning in tokens.warnings(config):
        report(warning, 0)
    os.environ["OCR_DATA_DIR"] = str(config.data_dir)
    from gunicorn.app import wsgiapp

    # This process becomes gunicorn's main process. `web` is named instead of imported, because
    # `ocr_tasks` must not import it.
    sys.argv = [wsgiapp.__file__, "--config", "python:web.server", "web.app:create_app()"]
    wsgiapp.run(prog="gunicorn")
    return 0


def _courier(options: argparse.Namespace) -> int:
    from ocr_tasks.redis import connection
    from ocr_tasks.worker import webhook_sender

    connection.check()
    return webhook_sender.main()


def _sweep(options: argparse.Namespace) -> int:
    from redis import RedisError

    from ocr_tasks import errors, settings
    from ocr_tasks.jobs import retention
    from ocr_tasks.redis import connection

    swept = retention.Swept()
    try:
        with connection.translated_errors():
            retention.expire(swept)
            retention.sweep(swept)
    except errors.QueueUnavailable:
        raise
    except (RedisError, errors.ServiceError) as error:
        return report(f"{error}", UNAVAILABLE)
    print(
        f"Deleted {swept.inputs} inputs, {swept.results} results, {swept.jobs} jobs, "
        f"{swept.uploads} unfinished uploads and {swept.leftovers} orphaned files: "
        f"{swept.bytes / settings.MIB:.1f} MiB. Restored {swept.restored} jobs."
    )
    return 0


def _webhooks(options: argparse.Namespace) -> int:
    from ocr_tasks import errors, webhooks

    try:
        print("\n".join(webhooks.secret_texts()))
    except errors.ServiceError as error:
        return report(f"{error}", UNAVAILABLE)
    return 0
