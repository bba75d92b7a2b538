"""`ocr-tasks flower`: Celery's dashboard, configured for this service."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from typing import Any

from ocr_tasks import logs, settings
from ocr_tasks.exits import UNAVAILABLE, USAGE, report
from ocr_tasks.redis import connection, counters
from ocr_tasks.settings import Settings

log = logging.getLogger(__name__)

#: Number of tasks that Flower keeps in memory.
_TASKS = 5000

#: Seconds after which an offline worker is removed from the list.
_OFFLINE_SECONDS = 600

#: Milliseconds that workers have to reply to inspections. All cores of a busy worker are in use.
_REPLY_MILLISECONDS = 3000.0

_COLUMNS = "uuid,args,kwargs,state,received,runtime,name,worker"


def fill(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `flower`."""
    parser.set_defaults(run=_flower)


def _flower(options: argparse.Namespace) -> int:
    config = settings.get()
    if not config.flower_password and not settings.is_loopback(config.flower_host):
        reason = f"because {config.flower_host} is not a loopback address"
        return report(f"set OCR_FLOWER_PASSWORD, {reason}", USAGE)
    if config.flower_writable and not config.flower_password:
        return report("OCR_FLOWER_WRITABLE requires OCR_FLOWER_PASSWORD", USAGE)
    connection.check()
    logs.set_up()
    dashboard = _dashboard(config)
    try:
        dashboard.start_http_server()
    except OSError as error:
        endpoint = f"{config.flower_host}:{config.flower_port} ({error.strerror})"
        return report(f"cannot listen on {endpoint}", UNAVAILABLE)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log.info("http://%s:%s", config.flower_host, config.flower_port)
    try:
        dashboard.start()
    except (KeyboardInterrupt, SystemExit):
        return 0
    finally:
        dashboard.stop()
    return 0


def _dashboard(config: Settings) -> Any:
    """Returns Flower's application.

    Flower's own command takes the password as an argument, which the process list shows, and
    reads options from environment variables and files that this project does not document.
    """
    import tornado.web
    from flower import command, urls
    from flower.app import Flower
    from flower.options import options as flower_options
    from flower.views import monitor
    from kombu.utils.url import parse_url

    from ocr_tasks.jobs.celery_app import app

    flower_options.address, flower_options.port = config.flower_host, config.flower_port
    flower_options.url_prefix = config.flower_url_prefix
    if config.flower_password:
        flower_options.basic_auth = [f"{config.flower_user}:{config.flower_password}"]
    flower_options.read_only = not config.flower_writable
    flower_options.max_tasks, flower_options.purge_offline_workers = _TASKS, _OFFLINE_SECONDS
    flower_options.inspect_timeout, flower_options.tasks_columns = _REPLY_MILLISECONDS, _COLUMNS
    flower_options.task_runtime_metric_buckets = list(counters.DURATION_BOUNDS)
    command.extract_settings()
    # Without a password, Flower's pages are open but its API is closed. This variable would open
    # the API.
    os.environ.pop("FLOWER_UNAUTHENTICATED_API", None)
    # The metrics contain names of hosts and workers, so they require the password too.
    monitor.Metrics.get = tornado.web.authenticated(monitor.Metrics.get)
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    # Flower runs no tasks, so their modules (e.g. OCRmyPDF) need not be loaded.
    app.conf.imports = []
    # Flower uses its own Redis client for queue lengths, which ignores TLS options in the URL.
    url = app.conf.broker_url
    app.conf.broker_use_ssl = url.startswith("rediss:") and parse_url(url).get("ssl", False)
    return Flower(capp=app, options=flower_options, **urls.settings)
