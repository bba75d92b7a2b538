"""Submission of documents as jobs, shared by all interfaces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ocr_tasks import errors, extensions, options
from ocr_tasks.jobs import idempotency, lifecycle, worker_registry
from ocr_tasks.model import Callback, Job
from ocr_tasks.storage import store
from ocr_tasks.uploads import receive
from web import extensions as web_extensions
from web.access import authentication
from web.extensions import DocumentSource
from web.http import streaming


@contextmanager
def admitting(upload: streaming.UploadRequest) -> Iterator[authentication.Caller]:
    """Checks that the client may submit another job; yields the client.

    At the end of the block, uploaded files that did not become a job are deleted.
    """
    caller = authentication.caller()
    with streaming.cleaning_up(upload):
        caller.spend("submits_minute")
        lifecycle.check_queue(caller.id, caller.max_waiting_jobs)
        yield caller


def source(
    incoming: receive.Upload, form: dict[str, list[str]], owner: str | None
) -> DocumentSource | None:
    """Returns the source that a form names, or None if the document consists of uploaded files."""
    found = (one.document_source(incoming, form, owner) for one in web_extensions.installed())
    return next(filter(None, found), None)


def submit(
    caller: authentication.Caller,
    incoming: receive.Upload,
    chosen: options.JobOptions,
    *,
    idempotency_key: str | None = None,
    callback: Callback | None = None,
    source: DocumentSource | None = None,
    reuse: bool = True,
) -> Job:
    """Submits the files of a request as a job; returns the job.

    With `reuse`, an existing job with the same files and options is returned instead.
    """
    chosen.check_languages(worker_registry.languages())
    for extension in extensions.installed():
        extension.check_options(chosen)
    idempotent_request = idempotency.request(
        owner=caller.id,
        idempotency_key=idempotency_key,
        sha256=incoming.fingerprint,
        options=f"{chosen.model_dump_json()} {callback} {source}",
        reuse=reuse and callback is None and source is None,
    )
    caller.check()  # the upload may have taken hours
    earlier = lifecycle.find_earlier(idempotent_request)
    if earlier:
        return earlier
    received = receive.receive(incoming, chosen)
    if source:
        received = source.attach(received)
    try:
        caller.spend("pages_day", received.input.pages)
    except errors.ServiceError:
        store.get().delete(received.job_id)
        raise
    max_waiting = caller.max_waiting_jobs
    return lifecycle.submit(
        received.job_id,
        received.input,
        chosen,
        caller.id,
        max_waiting,
        idempotent_request,
        callback,
    )
