"""Messages of processor jobs, with a real Redis."""

from __future__ import annotations

import pytest
import redis

from ocr_tasks.jobs import worker_registry
from ocr_tasks.model import WorkerInfo
from ocr_tasks.ocrd import queueing
from tests.ocr_tasks.jobs.test_queues import JOB, OTHER, arguments, waiting


def test_the_message_of_a_job_is_in_the_queue_of_its_processor(service: redis.Redis) -> None:
    queueing.publish({JOB: "ocrd-one", OTHER: "ocrd-two"})

    (one,), (two,) = waiting(service, "ocrd-one"), waiting(service, "ocrd-two")
    assert (one["headers"]["id"], two["headers"]["id"]) == (JOB, OTHER)
    assert one["headers"]["task"] == "ocr_tasks.tasks.run_processor"
    assert arguments(one) == [JOB]
    assert one["headers"]["argsrepr"] == "ocrd-one"


@pytest.mark.usefixtures("service")
def test_the_length_of_a_processors_queue_depends_on_its_workers() -> None:
    queueing._processes.cache_clear()
    assert queueing._long_enough() == 16

    worker_registry.announce(WorkerInfo("reads", 8, ["eng"]))
    worker_registry.announce(WorkerInfo("runs", 3, processors=["ocrd-one"]))
    queueing._processes.cache_clear()

    assert queueing._long_enough() == 16 + 2 * 3
