"""Creates documents from finished uploads of /v1/uploads that a form lists instead of files."""

from __future__ import annotations

from ocr_tasks import errors
from ocr_tasks.uploads import receive, tus
from ocr_tasks.uploads.tus import ResumableUpload
from web import extensions

FIELD = "upload"


def pop_ids(incoming: receive.Upload, form: dict[str, list[str]]) -> list[str]:
    """Removes the `upload` fields from a form; returns the ids of the uploads."""
    ids = [text.rpartition("/")[2] for text in form.pop(FIELD, [])]
    others = [one.source_field for one in extensions.installed() if one.source_field]
    if ids and (incoming.names or form.keys() & set(others)):
        fields = ", ".join(f"`{name}`" for name in (FIELD, *others))
        raise errors.MalformedRequest(f"Send only one of: files, {fields}")
    if len(set(ids)) < len(ids):
        raise errors.MalformedRequest(f"The same `{FIELD}` was sent twice")
    return ids


def link(incoming: receive.Upload, ids: list[str], sees: str | None) -> list[ResumableUpload]:
    """Links the content of uploads to the files of a request.

    The uploads still exist until the request has become a job.
    """
    uploads = [tus.find(upload_id, sees) for upload_id in ids]
    known = {(upload.job, upload.fingerprint) for upload in uploads}
    if len(known) == 1 and uploads[0].job:
        # A repeated request: with the same Idempotency-Key, it gets the existing job.
        incoming.existing_job = known.pop()
        return []
    for upload in uploads:
        tus.read(upload.id, sees)
        if upload.offset != upload.length:
            of = "an unknown number" if upload.length is None else upload.length
            detail = f"{upload.offset} of {of} bytes were received"
            raise errors.UploadUnfinished(detail, offset=upload.offset, length=upload.length)
        incoming.link(upload.content, upload.untrusted_name)
    return uploads
