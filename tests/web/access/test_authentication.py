"""Scopes, owners, cookies and rate limits, with a real Redis and without a worker."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ocr_tasks import settings
from ocr_tasks.jobs import lifecycle
from ocr_tasks.model import Scope
from ocr_tasks.security import tokens
from tests.ocr_tasks.jobs.test_owners import submit
from tests.web.conftest import Configure
from web.access import authentication, scopes
from web.app import create_app

pytestmark = pytest.mark.usefixtures("service")


@pytest.fixture
def http(configure: Configure) -> FlaskClient:
    """A client of an application that requires tokens."""
    return configure(access="tokens")


def bearer(*granted: Scope, **more: Any) -> dict[str, str]:
    _token, text = tokens.create("test", granted, **more)
    return {"Authorization": f"Bearer {text}"}


def refused(answer: TestResponse, status: int, code: str) -> dict[str, Any]:
    assert answer.content_type == "application/problem+json", answer.text
    problem: dict[str, Any] = json.loads(answer.text)
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert problem["advice"]
    return problem


# Routes


def test_each_route_declares_its_scope(configure: Configure) -> None:
    app = configure(dialects=",".join(settings.DIALECTS)).application
    routes = {rule.endpoint for rule in app.url_map.iter_rules()}

    assert routes == set(scopes.table())


def test_a_route_without_a_declared_scope_is_for_administrators() -> None:
    assert scopes.required("forgotten.route") == {Scope.ADMIN}


#: All but those of docr/smd, which refuse in their own way (tests/swarm/test_docr.py).
ROUTES = [
    (rule.rule, method, rule.endpoint)
    for rule in create_app().url_map.iter_rules()
    for method in sorted(rule.methods - {"HEAD", "OPTIONS"})
    if not rule.endpoint.startswith("docr.")
]
GUARDED = [row for row in ROUTES if scopes.required(row[2]) != scopes.PUBLIC]
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def address(rule: str) -> str:
    """Returns the URL of a route, for a job that does not exist."""
    filled = rule.replace("<job_id>", UNKNOWN).replace("<int:page>", "1")
    return filled.replace("<artifact>", "pdf").replace("<path:filename>", "style.css")


@pytest.mark.parametrize(("rule", "method", "endpoint"), GUARDED, ids=str)
def test_a_route_needs_a_token_with_one_of_its_scopes(
    http: FlaskClient, rule: str, method: str, endpoint: str
) -> None:
    needed = scopes.required(endpoint)

    def ask(headers: dict[str, str]) -> TestResponse:
        return http.open(address(rule), method=method, headers=headers)

    refused(ask({}), 401, "not_authenticated")
    for scope in Scope:
        answer = ask(bearer(scope))
        if scope in needed or scope is Scope.ADMIN:
            assert answer.status_code not in (401, 403), answer.text
        else:
            problem = refused(answer, 403, "scope_missing")
            assert problem["scopes"] == sorted(needed)
    assert ask(bearer()).status_code == 403


@pytest.mark.parametrize(
    ("rule", "method"),
    [
        (rule, method)
        for rule, method, endpoint in ROUTES
        if (rule, method, endpoint) not in GUARDED
    ],
    ids=str,
)
def test_routes_without_information_about_documents_need_no_token(
    http: FlaskClient, rule: str, method: str
) -> None:
    answer = http.open(
        address(rule), method=method, json={"token": ""} if method == "POST" else None
    )

    if rule == "/v1/session" and method == "POST":
        refused(answer, 401, "not_authenticated")
    elif rule == "/readyz":
        assert answer.json["missing"] == ["workers"]
    else:
        assert answer.status_code in (200, 204, 404)
    answer.close()


def test_every_refusal_of_a_token_is_the_same(http: FlaskClient) -> None:
    _token, good = tokens.create("test", {Scope.READ})
    expired, expired_text = tokens.create("test", {Scope.READ}, days=1e-9)
    revoked, revoked_text = tokens.create("test", {Scope.READ})
    tokens.revoke(revoked.id)
    assert tokens.has_ended(expired)
    sent = [
        {},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": f"Bearer {good[:-1]}x"},
        {"Authorization": f"Bearer {expired_text}"},
        {"Authorization": f"Bearer {revoked_text}"},
        {"Authorization": f"Basic {good}"},
        {"Authorization": good},
        {"Authorization": "Bearer"},
        {"Cookie": f"{authentication.COOKIE}={revoked_text}"},
        {"Cookie": f"other={good}"},
    ]

    answers = [http.get("/v1/jobs", headers=headers) for headers in sent]

    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert {answer.headers["WWW-Authenticate"] for answer in answers} == {
        'Bearer realm="OCR Tasks"'
    }


def test_a_token_in_the_url_is_ignored(http: FlaskClient) -> None:
    _token, text = tokens.create("test", Scope)

    for name in ("token", "access_token", authentication.COOKIE, "Authorization"):
        refused(http.get("/v1/jobs", query_string={name: text}), 401, "not_authenticated")


def test_an_unknown_url_is_a_404_without_a_token(http: FlaskClient) -> None:
    refused(http.get("/v1/nothing"), 404, "not_found")
    answer = http.put("/v1/jobs")
    refused(answer, 405, "method_not_allowed")
    assert "POST" in answer.headers["Allow"]


def test_a_preflight_needs_no_token_and_gets_no_permission(http: FlaskClient) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = http.options("/v1/jobs", headers=asked)

    assert answer.status_code == 200
    assert not [name for name in answer.headers.keys() if name.startswith("Access-Control")]  # noqa: SIM118


def test_the_openapi_document_contains_the_scope_of_each_route(http: FlaskClient) -> None:
    spec = http.get("/openapi.json").json

    assert set(spec["components"]["securitySchemes"]) == {"token", "password", "cookie"}
    show = spec["paths"]["/v1/jobs/{job_id}"]
    assert show["get"]["security"] == [{"token": ["read"]}, {"cookie": ["read"]}]
    assert show["delete"]["security"] == [{"token": ["submit"]}, {"cookie": ["submit"]}]
    assert spec["paths"]["/healthz"]["get"]["security"] == []
    assert spec["paths"]["/v1/options"]["get"]["security"] == [{"token": []}, {"cookie": []}]


# Owners


def job_routes() -> list[tuple[str, str]]:
    return [(rule, method) for rule, method, _ in ROUTES if rule.startswith("/v1/jobs/<job_id>")]


@pytest.mark.parametrize(("rule", "method"), job_routes(), ids=str)
def test_another_owners_job_is_unknown(http: FlaskClient, rule: str, method: str) -> None:
    token, text = tokens.create("owner", {Scope.READ, Scope.SUBMIT})
    job_id = submit(token.id)
    stranger = bearer(Scope.READ, Scope.SUBMIT, Scope.SWARM, Scope.OCRD)

    foreign = http.open(address(rule).replace(UNKNOWN, job_id), method=method, headers=stranger)
    unknown = http.open(address(rule), method=method, headers=stranger)

    refused(foreign, 404, "job_not_found")
    assert foreign.text.replace(job_id, UNKNOWN) == unknown.text
    assert dict(foreign.headers) == dict(unknown.headers)
    assert lifecycle.read(job_id).state == "queued"
    for good in ({"Authorization": f"Bearer {text}"}, bearer(Scope.ADMIN)):
        own = http.get(f"/v1/jobs/{job_id}", headers=good)
        assert own.json["owner"] == token.id


def test_a_list_contains_the_clients_own_jobs_or_all_for_an_administrator(
    http: FlaskClient,
) -> None:
    token, text = tokens.create("owner", {Scope.READ})
    mine, _other = submit(token.id), submit("somebody")

    def listed(headers: dict[str, str]) -> set[str]:
        return {job["id"] for job in http.get("/v1/jobs", headers=headers).json["jobs"]}

    assert listed({"Authorization": f"Bearer {text}"}) == {mine}
    assert listed(bearer(Scope.READ)) == set()
    assert len(listed(bearer(Scope.ADMIN))) == 2


def test_a_long_poll_ends_when_its_token_is_revoked(
    http: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, text = tokens.create("owner", {Scope.READ})
    job_id = submit(token.id)
    monkeypatch.setattr("web.api.events.HEARTBEAT", 0.2)
    wait = lifecycle.wait

    def revoke_and_wait(*args: Any) -> Any:
        tokens.revoke(token.id)
        return wait(*args)

    monkeypatch.setattr(lifecycle, "wait", revoke_and_wait)
    answer = http.get(f"/v1/jobs/{job_id}?wait=60", headers={"Authorization": f"Bearer {text}"})

    refused(answer, 401, "not_authenticated")


def test_an_event_stream_ends_when_its_token_is_revoked(
    http: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, text = tokens.create("owner", {Scope.READ})
    job_id = submit(token.id)
    monkeypatch.setattr("web.api.events.HEARTBEAT", 0.2)
    stream = http.get(f"/v1/jobs/{job_id}/events", headers={"Authorization": f"Bearer {text}"})
    events = stream.iter_encoded()
    assert b"retry" in next(events)
    assert b"event: job" in next(events)
    assert next(events) == b": still here\n\n"

    tokens.revoke(token.id)

    assert list(events) == [b": not_authenticated\n\n"]


# The session of the web page


def test_signing_in_sets_a_cookie_that_scripts_cannot_read(http: FlaskClient) -> None:
    token, text = tokens.create("the page", {Scope.READ})

    answer = http.post("/v1/session", json={"token": f" {text}\n"})

    assert answer.json == {
        "access": "tokens",
        "by_cookie": True,
        "token": token.id,
        "name": "the page",
        "scopes": ["read"],
        "expires_at": None,
    }
    assert text not in answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    cookie = answer.headers["Set-Cookie"]
    assert {"HttpOnly", "Path=/", "SameSite=Strict"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert "Max-Age" not in cookie
    assert http.get("/v1/jobs").status_code == 200
    assert http.get("/v1/session").json["name"] == "the page"


def test_with_https_the_cookie_is_secure(configure: Configure) -> None:
    http = configure(access="tokens", trusted_proxies="1")
    _token, text = tokens.create("the page", {Scope.READ})

    answer = http.post("/v1/session", json={"token": text}, headers={"X-Forwarded-Proto": "https"})

    assert "Secure" in answer.headers["Set-Cookie"]


def test_signing_out_deletes_the_cookie(http: FlaskClient) -> None:
    _token, text = tokens.create("the page", {Scope.READ})
    http.post("/v1/session", json={"token": text})

    answer = http.delete("/v1/session")

    assert answer.status_code == 204
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    refused(http.get("/v1/session"), 401, "not_authenticated")


def test_an_invalid_cookie_is_deleted(http: FlaskClient) -> None:
    token, text = tokens.create("the page", {Scope.READ})
    http.post("/v1/session", json={"token": text})
    tokens.revoke(token.id)

    answer = http.get("/v1/jobs")

    refused(answer, 401, "not_authenticated")
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    assert http.get_cookie(authentication.COOKIE) is None


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"json": {"token": "nonsense"}}, 401),
        ({"json": {"token": "x" * 201}}, 400),
        ({"json": {}}, 400),
        ({"json": []}, 400),
        ({"data": "token=x"}, 400),
        ({"data": b"\xff\xfe", "content_type": "application/json"}, 400),
        ({"data": b"[" * 50_000, "content_type": "application/json"}, 400),
        ({"data": b'"' + b"x" * 5_000_000 + b'"', "content_type": "application/json"}, 413),
    ],
    ids=["wrong", "long", "empty", "list", "form", "binary", "deep", "large"],
)
def test_a_failed_sign_in_sets_no_cookie_and_does_not_repeat_the_token(
    http: FlaskClient, sent: dict[str, Any], status: int
) -> None:
    answer = http.post("/v1/session", **sent)

    assert answer.status_code == status
    assert json.loads(answer.text)["code"]
    assert "Set-Cookie" not in answer.headers
    assert "xxx" not in answer.text
    assert "nonsense" not in answer.text


def test_a_token_in_the_header_precedes_the_cookie(http: FlaskClient) -> None:
    _token, text = tokens.create("the page", {Scope.READ})
    http.post("/v1/session", json={"token": text})

    assert http.get("/v1/session", headers=bearer(Scope.SWARM)).json["scopes"] == ["swarm"]
    wrong = http.get("/v1/session", headers={"Authorization": "Bearer x"})
    refused(wrong, 401, "not_authenticated")
    assert "Set-Cookie" not in wrong.headers


# Open access


@pytest.mark.parametrize(
    ("changed", "is_open"),
    [
        ({}, True),
        ({"host": "::1"}, True),
        ({"host": "localhost"}, True),
        ({"host": "127.0.0.2"}, True),
        ({"host": "0.0.0.0"}, False),
        ({"host": "::"}, False),
        ({"host": "192.0.2.1"}, False),
        ({"host": "ocr.example"}, False),
        ({"trusted_proxies": "1"}, False),
        ({"access": "tokens"}, False),
        ({"access": "open", "host": "0.0.0.0"}, True),
        ({"access": "open", "trusted_proxies": "1"}, True),
    ],
    ids=str,
)
def test_a_server_is_open_if_only_its_own_host_can_reach_it(
    configure: Configure, changed: dict[str, str], is_open: bool
) -> None:
    http = configure(**changed)

    assert http.get("/v1/jobs").status_code == (200 if is_open else 401)
    if is_open:
        assert http.get("/v1/session").json["access"] == "open"
        assert http.get("/v1/jobs", headers={"Authorization": "Bearer x"}).status_code == 200


def said_at_start(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    from ocr_tasks import cli

    settings.clear()
    monkeypatch.setattr("sys.argv", ["ocr-tasks", "web"])
    monkeypatch.setattr("gunicorn.app.wsgiapp.run", lambda **_: None)
    with pytest.MonkeyPatch.context() as kept:
        kept.setenv("OCR_DATA_DIR", str(settings.get().data_dir))
        cli.main(["web"])
    return capsys.readouterr().err


def test_an_open_server_that_others_can_reach_logs_a_warning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_ACCESS", "open")
    assert said_at_start(capsys, monkeypatch) == ""
    monkeypatch.setenv("OCR_HOST", "0.0.0.0")

    said = said_at_start(capsys, monkeypatch)

    assert "WARNING: anyone who can connect to 0.0.0.0:8000" in said
    assert "OCR_ACCESS" in said


def test_a_server_without_tokens_reports_how_to_create_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said_at_start(capsys, monkeypatch) == ""
    monkeypatch.setenv("OCR_HOST", "0.0.0.0")
    revoked, _text = tokens.create("x", {Scope.READ})
    tokens.revoke(revoked.id)

    assert "ocr-tasks tokens create" in said_at_start(capsys, monkeypatch)

    tokens.create("x", {Scope.READ})
    assert said_at_start(capsys, monkeypatch) == ""
    monkeypatch.setenv("OCR_REDIS_URL", "unix:///nowhere/redis.sock")


# Rate limits


def test_a_token_has_its_own_limit_or_the_default(configure: Configure) -> None:
    http = configure(access="tokens", limit_requests_minute="3")
    common = bearer(Scope.READ)
    own = bearer(Scope.READ, limits={"requests_minute": 5})
    free = bearer(Scope.READ, limits={"requests_minute": 0})

    def served(headers: dict[str, str]) -> int:
        answers = [http.get("/v1/jobs", headers=headers) for _ in range(8)]
        return [answer.status_code for answer in answers].count(200)

    assert (served(common), served(own), served(free)) == (3, 5, 8)
    problem = refused(http.get("/v1/jobs", headers=common), 429, "limit_reached")
    assert (problem["limit"], problem["most"]) == ("requests_minute", 3)
    answer = http.get("/v1/jobs", headers=common)
    assert int(answer.headers["Retry-After"]) == answer.json["retry_after"]
    assert 1 <= answer.json["retry_after"] <= 60


def test_with_open_access_the_limit_is_per_ip_address(configure: Configure) -> None:
    http = configure(limit_requests_minute="2")

    def ask(address: str) -> int:
        return http.get("/v1/jobs", environ_base={"REMOTE_ADDR": address}).status_code

    assert [ask("192.0.2.1") for _ in range(3)] == [200, 200, 429]
    assert ask("192.0.2.2") == 200
    assert [ask(f"2001:db8::{number}") for number in range(1, 4)] == [200, 200, 429]
    assert ask("2001:db8:0:1::1") == 200
    assert ask("::ffff:192.0.2.1") == 429


def test_wrong_tokens_are_limited_per_ip_address_and_valid_ones_are_not(http: FlaskClient) -> None:
    good = bearer(Scope.READ)
    wrong = {"Authorization": "Bearer ocrt_000000000000_" + "0" * 64}

    answers = [http.get("/v1/jobs", headers=wrong) for _ in range(40)]

    assert [answer.status_code for answer in answers] == [401] * 30 + [429] * 10
    problem = refused(answers[-1], 429, "limit_reached")
    assert problem["limit"] == "failures_minute"
    assert int(answers[-1].headers["Retry-After"]) >= 1
    refused(http.post("/v1/session", json={"token": "x"}), 429, "limit_reached")
    refused(http.get("/v1/jobs"), 401, "not_authenticated")
    assert http.get("/v1/jobs", headers=good).status_code == 200
    elsewhere = http.get("/v1/jobs", headers=wrong, environ_base={"REMOTE_ADDR": "192.0.2.9"})
    assert elsewhere.status_code == 401


def test_a_request_needs_one_more_redis_request_for_its_token(
    http: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, text = tokens.create("owner", {Scope.READ})
    job_id = submit(token.id)
    headers = {"Authorization": f"Bearer {text}"}
    http.get(f"/v1/jobs/{job_id}", headers=headers)
    trips: list[object] = []
    for kind, name in ((redis.Redis, "execute_command"), (redis.client.Pipeline, "execute")):
        ask = getattr(kind, name)
        monkeypatch.setattr(
            kind,
            name,
            lambda self, *words, ask=ask, **more: (
                trips.append(words or "pipeline"),
                ask(self, *words, **more),
            )[1],
        )
    monkeypatch.setattr(
        redis.client.Pipeline, "execute_command", redis.client.Pipeline.pipeline_execute_command
    )

    http.get(f"/v1/jobs/{job_id}", headers=headers)

    assert len(trips) == 2, trips
