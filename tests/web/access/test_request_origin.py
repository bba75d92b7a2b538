"""Where requests come from: networks, host names, pages of other sites, proxies."""

from __future__ import annotations

import json

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ocr_tasks import errors, settings
from ocr_tasks.model import Scope
from ocr_tasks.security import tokens
from tests.web.access.test_authentication import UNKNOWN, bearer, refused
from tests.web.conftest import Configure
from web.access import authentication

pytestmark = pytest.mark.usefixtures("service")

CANCEL = f"/v1/jobs/{UNKNOWN}/cancel"


def code(answer: TestResponse) -> str:
    found: str = json.loads(answer.text).get("code", "")
    return found


# Host names


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8000", "127.0.0.1:8000", "127.1.2.3", "[::1]:8000", "LOCALHOST",
     "ocr.localhost"],
)  # fmt: skip
def test_a_server_on_loopback_accepts_loopback_names(configure: Configure, host: str) -> None:
    assert configure().get("/v1/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.nip.io", "0.0.0.0",
     "10.0.0.1", "[::ffff:10.0.0.1]", "notlocalhost", "2130706433", "[::1", "::1", "a b", "127.1",
     "localhost@evil.example"],
)  # fmt: skip
@pytest.mark.parametrize("address", ["/", "/v1/jobs", "/healthz", "/static/style.css", "/nothing"])
def test_a_server_on_loopback_refuses_other_names(
    configure: Configure, host: str, address: str
) -> None:
    answer = configure().get(address, headers={"Host": host})

    problem = refused(answer, 400, "host_refused")
    assert "OCR_HOSTS" in problem["advice"]


def test_an_administrator_can_add_host_names(configure: Configure) -> None:
    http = configure(hosts="ocr.example, OTHER.example")

    for host in ("ocr.example", "OCR.example:443", "other.example", "localhost"):
        assert http.get("/v1/jobs", headers={"Host": host}).status_code == 200
    refused(http.get("/v1/jobs", headers={"Host": "third.example"}), 400, "host_refused")


def test_any_host_name_is_accepted_elsewhere_unless_names_are_set(configure: Configure) -> None:
    any_name = configure(host="0.0.0.0", access="open")
    assert any_name.get("/v1/jobs", headers={"Host": "any.example"}).status_code == 200

    named = configure(hosts="ocr.example")
    assert named.get("/v1/jobs", headers={"Host": "ocr.example"}).status_code == 200
    refused(named.get("/v1/jobs", headers={"Host": "any.example"}), 400, "host_refused")


# Pages of other sites

OURS: list[dict[str, str]] = [
    {},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
    {"Origin": "http://localhost"},
    {"Origin": "https://localhost"},
]
THEIRS: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
    {"Sec-Fetch-Site": ""},
    {"Origin": "https://evil.example"},
    {"Origin": "http://localhost:9000"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "https://evil.example", "Authorization": "Basic eDp5"},
]
CHANGES = [("POST", "/v1/jobs"), ("POST", CANCEL), ("DELETE", f"/v1/jobs/{UNKNOWN}"),
           ("POST", "/v1/session"), ("DELETE", "/v1/session"), ("PUT", "/nothing")]  # fmt: skip


@pytest.mark.parametrize("headers", OURS, ids=str)
@pytest.mark.parametrize(("method", "address"), CHANGES)
def test_programs_and_the_own_web_page_may_change_something(
    configure: Configure, method: str, address: str, headers: dict[str, str]
) -> None:
    answer = configure().open(address, method=method, headers=headers)

    assert answer.status_code == 204 or code(answer) != "cross_site"


@pytest.mark.parametrize("headers", THEIRS, ids=str)
@pytest.mark.parametrize(("method", "address"), CHANGES)
def test_pages_of_other_sites_may_not_change_anything(
    configure: Configure, method: str, address: str, headers: dict[str, str]
) -> None:
    refused(configure().open(address, method=method, headers=headers), 403, "cross_site")


@pytest.mark.parametrize("headers", THEIRS, ids=str)
def test_pages_of_other_sites_may_not_use_the_cookie_of_their_user(
    configure: Configure, headers: dict[str, str]
) -> None:
    http = configure(access="tokens")
    _token, text = tokens.create("page", {Scope.SUBMIT})
    http.set_cookie(authentication.COOKIE, text)

    refused(http.post(CANCEL, headers=headers), 403, "cross_site")
    refused(http.post(CANCEL), 404, "job_not_found")


def test_any_site_may_send_a_token_in_the_header(configure: Configure) -> None:
    http = configure(access="tokens")
    headers = bearer(Scope.SUBMIT) | {"Origin": "https://elsewhere.example"}

    refused(http.post(CANCEL, headers=headers), 404, "job_not_found")


def test_access_to_responses_is_left_to_the_browser(configure: Configure) -> None:
    answer = configure().get("/v1/jobs", headers={"Sec-Fetch-Site": "cross-site"})

    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


# Allowed sites

SITE = "https://scans.example"


def preflight(http: FlaskClient, origin: str) -> TestResponse:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    return http.options("/v1/jobs", headers=asked)


def test_an_allowed_site_gets_cors_headers(configure: Configure) -> None:
    http = configure(cors_origins=f"{SITE},http://localhost:3000", access="tokens")

    leave = preflight(http, SITE).headers
    answer = http.get("/v1/jobs", headers=bearer(Scope.READ) | {"Origin": SITE})
    refusal = http.get("/v1/jobs", headers={"Origin": SITE})

    assert leave["Access-Control-Allow-Origin"] == SITE
    assert "Authorization" in leave["Access-Control-Allow-Headers"]
    assert "DELETE" in leave["Access-Control-Allow-Methods"]
    for told in (answer, refusal):
        assert told.headers["Access-Control-Allow-Origin"] == SITE
        assert "Location" in told.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in told.headers
        assert "Origin" in told.headers["Vary"]


@pytest.mark.parametrize(
    "origin", ["https://evil.example", f"{SITE}.evil.example", "http://scans.example", "null", "*",
               f"{SITE}:444", SITE.upper()],
)  # fmt: skip
def test_other_sites_get_no_cors_headers(configure: Configure, origin: str) -> None:
    http = configure(cors_origins=SITE)

    for answer in (preflight(http, origin), http.get("/v1/jobs", headers={"Origin": origin})):
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]
        assert "Origin" in answer.headers["Vary"]


def test_an_allowed_site_may_change_something(configure: Configure) -> None:
    http = configure(cors_origins=SITE)
    there = {"Sec-Fetch-Site": "cross-site", "Origin": SITE}

    refused(http.post(CANCEL, headers=there), 404, "job_not_found")
    there["Origin"] = "https://evil.example"
    refused(http.post(CANCEL, headers=there), 403, "cross_site")


# Networks and proxies


def ask_from(http: FlaskClient, address: str, **headers: str) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.get("/healthz", environ_base={"REMOTE_ADDR": address}, headers=named)


def test_only_allowed_networks_are_served(configure: Configure) -> None:
    http = configure(allowed_networks="192.0.2.0/24, 2001:db8::/32")

    for address in ("192.0.2.7", "2001:db8::1", "::ffff:192.0.2.7", "2001:db8::1%eth0"):
        assert ask_from(http, address).status_code == 200
    for address in ("192.0.3.7", "127.0.0.1", "2001:db9::1", "::ffff:10.0.0.1", "nonsense", ""):
        refused(ask_from(http, address), 403, "address_refused")
    refused(http.get("/nothing"), 403, "address_refused")


def test_an_ip_address_in_a_header_of_the_client_is_ignored(configure: Configure) -> None:
    http = configure(allowed_networks="192.0.2.0/24")

    for header in ("X_Forwarded_For", "X_Real_IP", "Forwarded", "True_Client_IP"):
        refused(ask_from(http, "10.0.0.1", **{header: "192.0.2.7"}), 403, "address_refused")


def test_as_many_proxies_are_trusted_as_are_configured(configure: Configure) -> None:
    http = configure(allowed_networks="192.0.2.0/24", trusted_proxies="2", access="open")

    def through(*hops: str) -> int:
        return ask_from(http, "10.0.0.1", X_Forwarded_For=", ".join(hops)).status_code

    assert through("192.0.2.7", "10.0.0.2") == 200
    assert through("10.9.9.9", "192.0.2.7", "10.0.0.2") == 200
    assert through("192.0.2.7", "10.9.9.9", "10.0.0.2") == 403
    assert through("192.0.2.7") == 403
    assert through("unknown", "10.0.0.2") == 403


def test_the_host_name_in_a_header_of_a_proxy_is_ignored(configure: Configure) -> None:
    http = configure(trusted_proxies="1", access="open")

    there = {"Host": "evil.example", "X-Forwarded-Host": "localhost"}
    refused(http.get("/healthz", headers=there), 400, "host_refused")


# Settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("access", "closed"),
        ("hosts", "https://ocr.example"),
        ("hosts", "ocr.example:8000"),
        ("hosts", "*.example"),
        ("hosts", "a b"),
        ("allowed_networks", "10.0.0.1/8"),
        ("allowed_networks", "everywhere"),
        ("trusted_proxies", "-1"),
        ("cors_origins", "*"),
        ("cors_origins", "scans.example"),
        ("cors_origins", "https://scans.example/"),
        ("cors_origins", "https://*.example"),
        ("cors_origins", "https://user@scans.example"),
        ("limit_pages_day", "-1"),
    ],
)
def test_an_invalid_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"OCR_{name.upper()}", value)
    settings.clear()

    with pytest.raises(errors.SettingsError, match=f"OCR_{name.upper()}"):
        settings.get()


def test_host_names_may_be_ip_addresses(configure: Configure) -> None:
    http = configure(hosts="192.0.2.1,[2001:db8::1]")

    for host in ("192.0.2.1:8000", "[2001:db8::1]:8000"):
        assert http.get("/v1/jobs", headers={"Host": host}).status_code == 200
