"""Writes the reference pages of the documentation from the code: docs/reference/*.md.

A test compares them with what is committed, so they cannot fall behind.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ocr_tasks import cli, errors, metrics, settings
from ocr_tasks.options import JobOptions
from ocr_tasks.settings import Settings
from web.app import create_app
from web.dialects import ocrmypdf_args
from web.http.problems import STATUS

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
_NOTE = "<!-- Written by `make docs` from the code. -->\n\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in row) + " |\n" for row in lines)


def settings_page() -> str:
    rows = [
        (f"`OCR_{name.upper()}`", f"`{_plain(field.default)}`", field.description)
        for name, field in Settings.model_fields.items()
    ]
    return (
        "# Settings\n\nAll settings are environment variables. Sizes are bytes, times seconds.\n\n"
        + _table(["Variable", "Default", "Meaning"], rows)
    )


def _plain(value: object) -> object:
    return '""' if value == "" else value


def errors_page() -> str:
    rows = [
        (f"`{code}`", STATUS.get(cls, "in the job"), f"{cls.title}. {cls.advice}")
        for code, cls in errors.by_code().items()
    ]
    return (
        "# Errors\n\nAn error is a problem document (RFC 9457) with a `code` that never changes "
        "its meaning. Those without a status tell why a job or a page failed, and stand in the "
        "job.\n\n" + _table(["Code", "Status", "What happened, and what to do"], rows)
    )


def options_page() -> str:
    properties: dict[str, Any] = JobOptions.model_json_schema()["properties"]
    rows = [
        (f"`{name}`", f"`{_plain(row['default'])}`" if row.get("default") is not None else "",
         row["description"])
        for name, row in properties.items()
    ]  # fmt: skip
    arguments = [
        (", ".join(f"`{name}`" for name in names.split(", ")), meaning)
        for names, meaning in ocrmypdf_args.understood()
    ]
    return (
        "# Options\n\nForm fields of `POST /v1/jobs`; `GET /v1/options` gives them as a JSON "
        "schema.\n\n"
        + _table(["Field", "Default", "Meaning"], rows)
        + "\n## OCRmyPDF's arguments\n\nWhat each argument of `ocrmypdf` is called here, for those "
        "who come from a script of their own. [Nextcloud](../how-to/nextcloud.md) sends them as "
        "they are. All others are refused there. Without an argument about pages that have text, "
        "OCRmyPDF refuses such documents (`mode=refuse`); `POST /v1/jobs` keeps these pages "
        "(`mode=skip`).\n\n" + _table(["Argument", "Option"], arguments)
    )


def http_page() -> str:
    head = ["Request", "Scope", "What it does"]
    ours = _requests("")
    others = [row for row in _requests(",".join(settings.DIALECTS)) if row not in ours]
    return (
        "# HTTP\n\nThe server shows the same at `/docs`, and as OpenAPI 3.1 at "
        "`/openapi.json`. Where [tokens](../how-to/access.md) are asked for, the token needs the "
        "scope that stands there, or `admin`.\n\n"
        + _table(head, ours)
        + "\n## Interfaces of other services\n\nThere where `OCR_DIALECTS` names them: `azure` "
        "([Paperless-ngx and Azure's SDKs](../how-to/paperless.md)), `nextcloud` "
        "([Nextcloud](../how-to/nextcloud.md)), `demo` "
        "([OCR with progress](../how-to/migrate/demo.md)).\n\n" + _table(head, others)
    )


def _requests(dialects: str) -> list[tuple[str, str, str]]:
    """What a server that speaks these dialects answers."""
    with _environment(OCR_DIALECTS=dialects):
        spec: dict[str, Any] = create_app().api_doc  # type: ignore[attr-defined]  # flask-openapi3's
    return [
        (
            f"`{method.upper()} {path}`",
            row["x-scope"],
            " ".join(f"{row['summary']} {row.get('description', '')}".split()),
        )
        for path, methods in spec["paths"].items()
        for method, row in methods.items()
    ]


def cli_page() -> str:
    text = "# Command line\n"
    for command, arguments in cli.describe().items():
        name, _, meaning = command.partition(": ")
        text += f"\n## `ocr-tasks {name}`\n\n{meaning[0].upper()}{meaning[1:]}.\n\n"
        text += _table(["Argument", "Meaning"], [(f"`{what}`", why) for what, why in arguments])
    return text


def metrics_page() -> str:
    """Needs a Redis, which may be empty."""
    endings = {"counter": "_total", "info": "_info"}
    rows = [
        (
            f"`{family.name}{endings.get(family.type, '')}`",
            "gauge" if family.type == "info" else family.type,
            ", ".join(f"`{label}`" for label in _labels(family)),
            family.documentation,
        )
        for family in metrics.registry().collect()
    ]
    return (
        "# Metrics\n\n`GET /metrics` in the format of Prometheus: "
        "[how to watch it](../how-to/monitoring.md). Counters begin again at 0 when Redis is "
        "emptied; Prometheus expects that of counters. Requests are counted up to two seconds "
        "late.\n\n" + _table(["Name", "Type", "Labels", "Meaning"], rows)
    )


def _labels(family: Any) -> Sequence[str]:
    """Its labels, also where there is nothing yet that has them."""
    names: Sequence[str] = family._labelnames
    found = {label for sample in family.samples for label in sample.labels}
    return names or sorted(found - {"le"})


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "errors.md": errors_page,
    "options.md": options_page,
    "http.md": http_page,
    "cli.md": cli_page,
    "metrics.md": metrics_page,
}


def page(name: str) -> str:
    """What the page of this name should hold."""
    return _NOTE + PAGES[name]()


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Has the settings read from these variables meanwhile."""
    before = dict(os.environ)
    os.environ |= variables
    settings.get.cache_clear()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before
        settings.get.cache_clear()


@contextmanager
def _redis() -> Iterator[None]:
    """An empty Redis, which ours ask meanwhile."""
    with (
        tempfile.TemporaryDirectory() as folder,
        _environment(OCR_REDIS_URL=f"unix://{folder}/redis.sock", OCR_DATA_DIR=folder),
    ):
        command = ["redis-server", "--port", "0", "--unixsocket", f"{folder}/redis.sock"]
        command += ["--save", "", "--dir", folder]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            try:
                while server.poll() is None and not Path(folder, "redis.sock").exists():
                    time.sleep(0.05)
                yield
            finally:
                server.terminate()


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with _redis():
        for name in PAGES:
            (FOLDER / name).write_text(page(name))


if __name__ == "__main__":
    main()
