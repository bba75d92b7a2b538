"""Documents in a bucket: the stack connects to an S3 server, and stores nothing in its volume."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests import bucket
from tests.acceptance.test_main_job import text_of
from tests.compose.stack import Compose, gateway, gone_afterwards, wait_for_state
from tests.conftest import DATA, free_port, submit, wait_until


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Compose, bucket.Bucket]]:
    folder = tmp_path_factory.mktemp("bucket")
    made = Compose(folder / "ocr-tasks", "ocr-tasks-bucket")
    made.make_env()
    with gone_afterwards(made):
        made.run("create", "--no-build", "web", "worker")  # creates the networks
        address, port = gateway(f"{made.project}_objects"), free_port()
        with bucket.serving(folder / "s3", address, port) as server:
            made.set(
                OCR_STORAGE_URL=server.settings["OCR_STORAGE_URL"],
                OCR_S3_ENDPOINT=f"http://{address}:{port}",
                OCR_S3_ALLOW_HTTP="1",
            )
            made.put_secret("ocr_s3_access_key_id", bucket.KEY)
            made.put_secret("ocr_s3_secret_access_key", bucket.SECRET)
            made.up("web", "worker")
            wait_until(made.ready, 120)
            yield made, server


def test_a_scan_is_stored_only_in_the_bucket(stack: tuple[Compose, bucket.Bucket]) -> None:
    compose, server = stack
    with httpx.Client(base_url=compose.url, timeout=90) as client:
        job = submit(client, DATA / "huckleberry-finn-p22.pdf").json()
        wait_for_state(client, job["id"], "succeeded")
        assert "stooping" in text_of(client.get(f"/v1/jobs/{job['id']}/pdf").content)
        assert [name for name in server.objects() if job["id"] in name]
        kept = compose.inside("worker", "find", "/data/jobs", "-type", "f").stdout
        assert job["id"] not in kept

        assert client.delete(f"/v1/jobs/{job['id']}").status_code < 300
        wait_until(lambda: not [name for name in server.objects() if job["id"] in name])
