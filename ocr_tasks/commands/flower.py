"""`ocr-tasks flower`: Celery's dashboard, set up for this service."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from typing import Any

from ocr_tasks import logs, settings
from ocr_tasks.commands.exits import UNAVAILABLE, USAGE, complain
from ocr_tasks.redis import connection, counters
from ocr_tasks.settings import Settings

log = logging.getLogger(__name__)

#: Tasks that Flower remembers; more only take its memory.
_TASKS = 5000

#: Seconds after which a worker that has gone is not shown any more.
_GONE_SECONDS = 600

#: Milliseconds that workers have to answer questions; one that reads has all cores busy.
_ANSWER_MILLISECONDS = 3000.0

_COLUMNS = "uuid,args,kwargs,state,received,runtime,name,worker"


def fill(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `flower`."""
    parser.set_defaults(run=_flower)


def _flower(options: argparse.Namespace) -> int:
    config = settings.get()
    if not config.flower_password and not settings.is_loopback(config.flower_host):
        where = f"on {config.flower_host}, where others can reach it"
        return complain(f"set OCR_FLOWER_PASSWORD: Flower would listen {where}", USAGE)
    if config.flower_writable and not config.flower_password:
        return complain("OCR_FLOWER_WRITABLE needs OCR_FLOWER_PASSWORD", USAGE)
    connection.check()
    logs.set_up()
    dashboard = _dashboard(config)
    try:
        dashboard.start_http_server()
    except OSError as error:
        where = f"{config.flower_host}:{config.flower_port} ({error.strerror})"
        return complain(f"cannot listen on {where}", UNAVAILABLE)
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
    """Flower's application.

    Made here rather than by its own command: that takes the password as an argument, which is seen
    in the list of processes, and options from variables and files that nobody of ours knows.
    """
    import tornado.web
    from flower import command, urls
    from flower.app import Flower
    from flower.options import options as chosen
    from flower.views import monitor
    from kombu.utils.url import parse_url

    from ocr_tasks.jobs.celery_app import app

    chosen.address, chosen.port = config.flower_host, config.flower_port
    chosen.url_prefix = config.flower_url_prefix
    if config.flower_password:
        chosen.basic_auth = [f"{config.flower_user}:{config.flower_password}"]
    chosen.read_only = not config.flower_writable
    chosen.max_tasks, chosen.purge_offline_workers = _TASKS, _GONE_SECONDS
    chosen.inspect_timeout, chosen.tasks_columns = _ANSWER_MILLISECONDS, _COLUMNS
    chosen.task_runtime_metric_buckets = list(counters.DURATION_BOUNDS)
    command.extract_settings()
    # Without a password the pages are open and the API is closed. This would open it.
    os.environ.pop("FLOWER_UNAUTHENTICATED_API", None)
    # The names of hosts and workers are for those who have the password as well.
    monitor.Metrics.get = tornado.web.authenticated(monitor.Metrics.get)
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    # It only looks on: what the tasks need, such as OCRmyPDF, stays unloaded.
    app.conf.imports = []
    # It asks for the lengths of queues by a client of its own, which does not look at these options
    # in the address.
    app.conf.broker_use_ssl = parse_url(app.conf.broker_url).get("ssl", False)
    return Flower(capp=app, options=chosen, **urls.settings)
