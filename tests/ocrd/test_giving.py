"""What a worker does when the OCR of a workspace's document is complete."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from ocr_tasks import errors
from ocr_tasks.jobs import lifecycle
from ocr_tasks.model import WorkspacePages
from ocr_tasks.ocrd import errors as ocrd_errors
from ocr_tasks.ocrd import results, workspaces
from tests.ocr_tasks.jobs.test_lifecycle import INPUT, OUTCOME, submit


def test_a_job_that_is_deleted_at_its_end_is_ignored(service: redis.Redis) -> None:
    job_id = submit()
    lifecycle.delete(job_id)

    assert results.deliver(job_id, OUTCOME) == OUTCOME


@pytest.mark.parametrize(
    "error",
    [ocrd_errors.WorkspaceDeleted("gone"), errors.ResultCorrupt("gone"), OSError(28, "gone")],
    ids=["deleted", "corrupt", "disk"],
)
def test_an_error_while_writing_to_the_workspace_does_not_fail_the_document(
    service: redis.Redis, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    job = lifecycle.read(submit())
    source = WorkspacePages("w", "", ("P1",))
    of_workspace = replace(job, input=replace(INPUT, workspace=source))
    monkeypatch.setattr(lifecycle, "read", lambda job_id: of_workspace)
    monkeypatch.setattr(workspaces, "read", lambda *asked: None)

    def fail(*asked: object) -> None:
        raise error

    monkeypatch.setattr(results, "add_results", fail)

    (warning,) = results.deliver(job.id, replace(OUTCOME, warnings=())).warnings

    assert warning == "The results were not added to the workspace: gone"
