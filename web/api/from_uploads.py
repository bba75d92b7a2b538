"""Makes a document of finished uploads of /v1/uploads, where a form names some, not files."""

from __future__ import annotations

from ocr_tasks import errors
from ocr_tasks.uploads import receive, tus
from ocr_tasks.uploads.tus import Upload

FIELD = "upload"


def wanted(incoming: receive.Incoming, form: dict[str, list[str]]) -> list[str]:
    """Takes the `upload` fields out of a form; returns the uploads' ids."""
    ids = [text.rpartition("/")[2] for text in form.pop(FIELD, [])]
    if ids and (incoming.names or "workspace" in form):
        raise errors.MalformedRequest(f"send either files, `{FIELD}` or `workspace`")
    if len(set(ids)) < len(ids):
        raise errors.MalformedRequest(f"the same `{FIELD}` comes twice")
    return ids


def take(incoming: receive.Incoming, ids: list[str], sees: str | None) -> list[Upload]:
    """Links the bytes of uploads to a request's files; they stay uploads until it is a job."""
    uploads = [tus.find(upload_id, sees) for upload_id in ids]
    known = {(upload.job, upload.fingerprint) for upload in uploads}
    if len(known) == 1 and uploads[0].job:
        # A request that comes twice gets its job, if its Idempotency-Key says so.
        incoming.taken = known.pop()
        return []
    for upload in uploads:
        tus.read(upload.id, sees)
        if upload.offset != upload.length:
            of = "an unknown number" if upload.length is None else upload.length
            detail = f"{upload.offset} bytes of {of} are here"
            raise errors.UploadUnfinished(detail, offset=upload.offset, length=upload.length)
        incoming.link(upload.content, upload.untrusted_name)
    return uploads
