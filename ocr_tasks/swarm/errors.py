"""The errors of the swarm; see `ocr_tasks.errors`."""

from __future__ import annotations

from ocr_tasks.errors import RequestError, ServiceError


class TranscriptInvalid(RequestError):
    code = "transcript_invalid"
    title = "The transcript is invalid"
    advice = "Send the text of the leased page image, in one of the formats that the lease lists."


class TranscriptTooLarge(RequestError):
    code = "transcript_too_large"
    title = "The transcript is too long"
    advice = "Send the text of this page only."


class LeaseUnknown(RequestError):
    code = "lease_unknown"
    title = "The lease does not exist"
    advice = "Lease a page, then send its transcript with the id of that lease."


class LeaseLost(RequestError):
    code = "lease_lost"
    title = "The lease is no longer valid"
    advice = "Another device has the page, or its transcript is already stored. Lease another page."


class PageWithdrawn(RequestError):
    code = "page_withdrawn"
    title = "The page is no longer needed"
    advice = "Lease another page."


class DeviceDistrusted(RequestError):
    code = "device_distrusted"
    title = "The client is blocked"
    advice = (
        "Transcripts of its token or IP address differed too often from those of others: check "
        "the Tesseract version and languages. The administrator can unblock it; see "
        "docs/how-to/swarm.md."
    )


class TooManyLeases(ServiceError):
    code = "too_many_leases"
    title = "The device has too many leases"
    advice = "Send the transcripts of leased pages, or release them."
