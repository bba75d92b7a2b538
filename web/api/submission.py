"""How a document that a client sends becomes a job: one way, whatever it speaks."""

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
    """Who sends a document, for as long as it is taken in; it must be allowed one more job.

    What the request brought is deleted at the end, if it became no job.
    """
    caller = authentication.caller()
    with streaming.taking(upload):
        caller.spend("submits_minute")
        lifecycle.check_queue(caller.id, caller.most_waiting)
        yield caller


def source(
    incoming: receive.Incoming, form: dict[str, list[str]], owner: str | None
) -> DocumentSource | None:
    """Returns where the form says that the document comes from; None: from the request's files."""
    found = (one.document_source(incoming, form, owner) for one in web_extensions.installed())
    return next(filter(None, found), None)


def submit(
    caller: authentication.Caller,
    incoming: receive.Incoming,
    chosen: options.JobOptions,
    *,
    idempotency_key: str | None = None,
    callback: Callback | None = None,
    source: DocumentSource | None = None,
    reuse: bool = True,
) -> Job:
    """A job that reads the files of a request; `reuse`: an earlier one of the same would do."""
    chosen.check_languages(worker_registry.languages())
    for extension in extensions.installed():
        extension.check_options(chosen)
    asked = idempotency.request(
        owner=caller.id,
        idempotency_key=idempotency_key,
        sha256=incoming.fingerprint,
        options=f"{chosen.model_dump_json()} {callback} {source}",
        reuse=reuse and callback is None and source is None,
    )
    caller.check()  # the upload may have taken hours
    earlier = lifecycle.sent_before(asked)
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
    most = caller.most_waiting
    return lifecycle.submit(
        received.job_id, received.input, chosen, caller.id, most, asked, callback
    )
