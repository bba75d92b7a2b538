"""The lock of a workspace's METS file."""

from __future__ import annotations

import pytest
import redis

from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import redis_keys, workspace_leases


def test_one_process_at_a_time_holds_the_mets_file(
    service: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace_leases, "WAIT_SECONDS", 0.05)
    with workspace_leases.mets_lease("a") as lease:
        lease.renew()
        with workspace_leases.mets_lease("b"):
            pass
        with (
            pytest.raises(ocrd_errors.ProcessorFailed, match="too long"),
            workspace_leases.mets_lease("a"),
        ):
            pass
        assert 0 < service.pttl(redis_keys.mets_lease("a")) <= 15_000
    assert service.keys(f"{redis_keys.OCRD}*") == []


def test_a_process_that_lost_the_lock_writes_nothing(service: redis.Redis) -> None:
    with workspace_leases.mets_lease("a") as slow:
        service.delete(redis_keys.mets_lease("a"))  # as if it had expired
        with workspace_leases.mets_lease("a") as quick:
            with pytest.raises(ocrd_errors.ProcessorFailed):
                slow.renew()
            quick.renew()


def test_the_lock_is_released_after_an_error(service: redis.Redis) -> None:
    with pytest.raises(ZeroDivisionError), workspace_leases.mets_lease("a"):
        raise ZeroDivisionError
    with workspace_leases.mets_lease("a") as lease:
        lease.renew()
