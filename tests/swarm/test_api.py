"""/v1/swarm, the interface for devices of this project, with a real Redis, without a worker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ocr_tasks.model import Scope
from ocr_tasks.redis import connection
from ocr_tasks.security import tokens
from ocr_tasks.swarm import devices, redis_keys
from tests import bodies
from tests.swarm.conftest import Load, hocr
from tests.web.conftest import Configure

pytestmark = pytest.mark.usefixtures("service")

HOCR = {"Content-Type": "text/vnd.hocr+html"}


@pytest.fixture
def http(configure: Configure) -> FlaskClient:
    return configure()


def leases(http: FlaskClient, **asked: Any) -> list[dict[str, Any]]:
    answer = http.post("/v1/swarm/leases", json={"device": "phone", **asked})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.get_json()["pages"]
    return found


def refused(answer: TestResponse, status: int, code: str) -> None:
    assert (answer.status_code, answer.get_json()["code"]) == (status, code), answer.text


def test_a_page_is_leased_and_its_transcript_is_accepted(
    http: FlaskClient, load: Load, tmp_path: Path
) -> None:
    load("sub/a.png")
    (page,) = leases(http)
    assert (page["name"], page["width"], page["height"]) == ("scans/sub/a.png", 100, 50)
    assert (page["languages"], page["format"]) == (["eng"], "text")

    with http.get(page["image"]) as image:
        assert (image.status_code, image.content_type) == (200, "image/png")
        assert image.data.startswith(b"\x89PNG")
    assert http.post(page["renew"]).get_json() == {"seconds": 60}
    assert http.put(page["transcript"], data=hocr("two words"), headers=HOCR).status_code == 204

    assert (tmp_path / "transcripts/sub/a.txt").read_text() == "two words"
    summary = http.get("/v1/swarm").get_json()
    assert (summary["done"], summary["transcripts"], summary["devices"]) == (1, 1, 1)
    (device,) = http.get("/v1/swarm/devices").get_json()["devices"]
    assert device["name"].endswith("/phone")
    assert (device["done"], device["open"], device["trusted"]) == (1, 0, True)


def test_several_pages_are_leased_at_once(http: FlaskClient, load: Load) -> None:
    load("a.png", "b.png", "c.png")

    assert len(leases(http, count=2)) == 2
    assert len(leases(http, count=5)) == 1


def test_without_waiting_pages_a_device_is_told_when_to_retry(http: FlaskClient) -> None:
    body = http.post("/v1/swarm/leases", json={}).get_json()

    assert (body["pages"], body["peer"]) == ([], None)
    assert body["retry_after"] >= 1


def test_a_device_gets_pages_that_it_can_process(http: FlaskClient, load: Load) -> None:
    load("a.tif", languages=("deu",))

    assert leases(http, images=["image/png"]) == []
    assert leases(http, languages=["eng"]) == []
    assert len(leases(http, languages=["deu"], images=["image/tiff"], formats=["text"])) == 1


def test_a_released_or_failed_page_goes_to_other_devices(http: FlaskClient, load: Load) -> None:
    load("a.png")
    (page,) = leases(http)
    assert http.post(page["release"]).status_code == 204
    (page,) = leases(http)
    assert http.post(page["failure"], json={"reason": "too\x1b dark"}).status_code == 204

    assert leases(http) == []
    assert len(leases(http, device="other")) == 1


def test_a_request_with_an_invalid_lease_is_refused(http: FlaskClient, load: Load) -> None:
    load("a.png")
    (page,) = leases(http)
    http.post(page["release"])
    (other,) = leases(http, device="other")
    http.put(other["transcript"], data=b"first", headers={"Content-Type": "text/plain"})

    refused(http.put("/v1/swarm/leases/made-up/transcript", data=b"x"), 404, "lease_unknown")
    refused(http.put(page["transcript"], data=b"late"), 409, "lease_lost")
    refused(http.post(page["renew"]), 409, "lease_lost")
    refused(http.get(page["image"]), 409, "lease_lost")
    again = http.put(other["transcript"], data=b"first", headers={"Content-Type": "text/plain"})
    assert again.status_code == 204


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"no hocr", 422, "transcript_invalid"),
        (hocr("x", width=5), 422, "transcript_invalid"),
        (b"x" * (5 * 1024 * 1024), 413, "transcript_too_large"),
        (b"x" * (50 * 1024 * 1024), 413, "transcript_too_large"),
    ],
)
def test_a_bad_transcript_is_refused_and_the_device_keeps_its_page(
    http: FlaskClient, load: Load, body: bytes, status: int, code: str
) -> None:
    load("a.png")
    (page,) = leases(http)

    refused(http.put(page["transcript"], data=body, headers=HOCR), status, code)
    assert http.put(page["transcript"], data=hocr("good"), headers=HOCR).status_code == 204


def test_a_transcript_of_another_type_is_refused(http: FlaskClient, load: Load) -> None:
    load("a.png")
    (page,) = leases(http)
    for kind in ("application/pdf", "application/json", "image/png"):
        sent = http.put(page["transcript"], data=b"%PDF-1.4", headers={"Content-Type": kind})
        refused(sent, 422, "transcript_invalid")
    assert http.put(page["transcript"], data=b"text").status_code == 204


def test_a_transcript_that_breaks_off_is_not_stored(
    http: FlaskClient, load: Load, tmp_path: Path
) -> None:
    load("a.png")
    (page,) = leases(http)
    for length in (0, 2, 7):
        sent = bodies.send(http, "PUT", page["transcript"], "text/plain", b"the text"[:length], 8)
        refused(sent, 400, "malformed_request")
        assert not list(tmp_path.glob("transcripts/*"))

    assert (
        bodies.send(http, "PUT", page["transcript"], "text/plain", b"the text", 8).status_code
        == 204
    )
    assert (tmp_path / "transcripts/a.txt").read_text() == "the text"


def test_a_bad_transcript_does_not_block_a_good_one_of_another_device(
    http: FlaskClient, load: Load
) -> None:
    load("a.png")
    (late,) = leases(http)
    http.post(late["release"])
    (other,) = leases(http, device="other")
    refused(http.put(other["transcript"], data=b"no hocr", headers=HOCR), 422, "transcript_invalid")

    assert http.put(late["transcript"], data=hocr("good"), headers=HOCR).status_code == 204


def test_a_page_whose_image_is_missing_does_not_block_others(
    http: FlaskClient, load: Load, images: Path
) -> None:
    load("a.png", "b.png", "c.png")
    (images / "a.png").unlink()
    (page,) = leases(http)
    assert page["name"] == "scans/b.png"
    (images / "b.png").unlink()

    refused(http.get(page["image"]), 410, "page_withdrawn")
    assert http.get("/v1/swarm").get_json()["aside"] == 2


@pytest.mark.parametrize(
    "body",
    [
        {"count": 0},
        {"count": 10**9},
        {"formats": ["exe"]},
        {"device": "x" * 1000},
        {"languages": "eng"},
        {"via": ["x"] * 1000},
    ],
)
def test_an_invalid_request_is_refused(http: FlaskClient, body: dict[str, Any]) -> None:
    answer = http.post("/v1/swarm/leases", json=body)

    assert answer.status_code in (400, 422), answer.text


def test_an_untrusted_device_gets_nothing_until_it_is_reset(http: FlaskClient, load: Load) -> None:
    load("a.png", "b.png")
    leases(http)
    (seen,) = devices.latest()
    for _ in range(3):
        devices.note_check(seen.name, agreed=False)
    answer = http.post("/v1/swarm/leases", json={"device": "phone"})
    refused(answer, 403, "device_distrusted")

    assert http.delete(f"/v1/swarm/devices/{seen.name}").status_code == 204
    assert len(leases(http)) == 1
    refused(http.delete("/v1/swarm/devices/nobody"), 404, "not_found")


def test_an_untrusted_client_gets_nothing_under_another_name_and_its_transcripts_are_refused(
    http: FlaskClient, load: Load, tmp_path: Path
) -> None:
    load("a.png")
    (page,) = leases(http)
    (seen,) = devices.latest()
    for _ in range(3):
        devices.note_check(seen.name, agreed=False)

    refused(http.post("/v1/swarm/leases", json={"device": "new"}), 403, "device_distrusted")
    refused(http.post(page["renew"]), 403, "device_distrusted")
    assert http.get("/v1/swarm").get_json()["waiting"] == 1
    refused(http.put(page["transcript"], data=b"x"), 403, "device_distrusted")
    assert not list(tmp_path.glob("transcripts/*"))
    assert http.get("/v1/swarm").get_json()["waiting"] == 1


def test_another_client_cannot_send_the_transcript_of_a_page_by_its_name(
    http: FlaskClient, load: Load, tmp_path: Path
) -> None:
    load("a.png")

    def of(address: str) -> Any:
        return {"environ_overrides": {"REMOTE_ADDR": address}}

    with http.get("/page", **of("10.0.0.1")) as answer:
        named = {"Content-Disposition": answer.headers["Content-Disposition"]}
    refused(http.put("/page", data=b"x", headers=named, **of("10.0.0.2")), 404, "lease_unknown")
    assert not list(tmp_path.glob("transcripts/*"))

    assert http.put("/page", data=b"x", headers=named, **of("10.0.0.1")).status_code == 200


def test_docr_clients_that_share_a_token_have_leases_of_their_own(
    configure: Configure, load: Load
) -> None:
    http = configure(access="tokens", swarm_leases_max="2")
    load(*(f"{number}.png" for number in range(6)))
    _, text = tokens.create("docr clients", [Scope.SWARM])

    def get(address: str, agent: str) -> int:
        headers = {"X-Auth-Key": text, "User-Agent": agent}
        told = http.get("/page", headers=headers, environ_overrides={"REMOTE_ADDR": address})
        with told:
            return told.status_code

    clients = [("10.0.0.1", "one"), ("10.0.0.1", "two"), ("2001:db8::1", "one")]
    assert [get(*client) for client in clients for _ in range(2)] == [200] * 6
    assert [get(*client) for client in clients] == [429] * 3
    names = [row.name.partition("/docr-")[2].rpartition("-")[0] for row in devices.latest()]
    assert sorted(names) == ["10.0.0.1", "10.0.0.1", "2001:db8::1"]


def test_the_scope_swarm_is_needed_if_tokens_are(configure: Configure, load: Load) -> None:
    http = configure(access="tokens")
    load("a.png")
    refused(http.post("/v1/swarm/leases", json={}), 401, "not_authenticated")
    for scope, status in ((Scope.READ, 403), (Scope.SWARM, 200)):
        _, text = tokens.create("phone", [scope])
        headers = {"Authorization": f"Bearer {text}"}
        answer = http.post("/v1/swarm/leases", json={}, headers=headers)
        assert answer.status_code == status
    lease = answer.get_json()["pages"][0]
    refused(http.put(lease["transcript"], data=b"x"), 401, "not_authenticated")
    assert http.put(lease["transcript"], data=b"x", headers=headers).status_code == 204


def test_a_device_sees_only_its_own_token(configure: Configure, load: Load) -> None:
    http = configure(access="tokens")
    load("a.png", "b.png")
    for name in ("one", "two"):
        _, text = tokens.create(name, [Scope.SWARM])
        headers = {"Authorization": f"Bearer {text}"}
        http.post("/v1/swarm/leases", json={"device": name}, headers=headers)

    found = http.get("/v1/swarm/devices", headers=headers).get_json()["devices"]
    assert [row["name"].rpartition("/")[2] for row in found] == ["two"]


def test_a_device_is_sent_to_another_server_if_no_page_waits(configure: Configure) -> None:
    # Only docr/smd's own clients can use its servers, whose URLs have a path.
    http = configure(swarm_peers="http://other.example,https://localhost,http://old.example/docr")
    body = http.post("/v1/swarm/leases", json={}).get_json()
    assert body["peer"] == "http://other.example"

    again = http.post("/v1/swarm/leases", json={"via": [*body["via"], "x"]}).get_json()
    assert (again["peer"], again["via"]) == (None, [])
    everywhere = [f"{number:012x}" for number in range(30)]
    assert http.post("/v1/swarm/leases", json={"via": everywhere}).get_json()["peer"] is None


def test_servers_behind_proxies_do_not_redirect_a_docr_client_in_a_circle(
    configure: Configure,
) -> None:
    other = {"a.example": "b.example", "b.example": "a.example"}
    name, path, seen = "a.example", "/page", []
    for _ in range(30):  # the number of redirects that docr/smd's client follows
        seen.append(name)
        # The servers know themselves only under the name that the proxy uses.
        inside = name.replace("example", "internal")
        http = configure(swarm_peers=f"https://{other[name]}", hosts=inside)
        told = http.get(path, base_url=f"http://{inside}")
        if told.status_code == 204:
            break
        name, _, query = told.headers["Location"].removeprefix("https://").partition("/page?via=")
        assert all(re.fullmatch("[0-9a-f]{12}", mark) for mark in unquote(query).split(","))
        path = f"/page?via={query}"

    assert seen == ["a.example", "b.example", "a.example"]


def test_a_docr_client_that_returns_at_once_is_not_redirected_again(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_REFERRAL_SECONDS", 600)
    http = configure(swarm_peers="http://old.example/docr/page")  # drops the marks in the URL

    def get(agent: str) -> int:
        return http.get("/page", headers={"User-Agent": agent}).status_code

    assert [get("one"), get("one"), get("two")] == [303, 204, 303]
    for key in connection.client().scan_iter(f"{redis_keys.SWARM}referred:*"):
        connection.client().delete(key)
    assert get("one") == 303


def test_an_image_on_another_site_cannot_lease_a_page(configure: Configure) -> None:
    http = configure()

    answer = http.get("/page", headers={"Sec-Fetch-Site": "cross-site"})
    refused(answer, 403, "cross_site")
    for said in ({}, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": "same-origin"}):
        assert http.get("/page", headers=said).status_code == 204


def test_the_operation_of_a_transcript_keeps_its_id(http: FlaskClient) -> None:
    paths = http.get("/openapi.json").get_json()["paths"]
    operation = paths["/v1/swarm/leases/{lease}/transcript"]["put"]

    assert operation["operationId"] == "swarm_answer_leases__lease__transcript_put"
