"""Which URLs of clients may be requested. Nothing here opens a connection."""

from __future__ import annotations

import ipaddress
from typing import Any

import httpcore
import pytest

from ocr_tasks import errors, settings
from ocr_tasks.security import url_guard

pytestmark = pytest.mark.usefixtures("service")

PUBLIC = "93.184.215.14"


class Recorder(httpcore.NetworkBackend):
    """Records the destination of a connection, and opens none."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def connect_tcp(self, host: str, port: int, *rest: Any, **options: Any) -> Any:
        self.asked.append((host, port))
        raise httpcore.ConnectError("recorded")


def ask(url: str, *answers: list[str]) -> list[tuple[str, int]]:
    """Returns the hosts and ports that a request connects to, for these DNS responses in turn."""
    parsed = url_guard.parse(url)
    turns = iter(answers)
    backend = url_guard.GuardedBackend(5, lambda host, port: next(turns))
    backend._backend = recorder = Recorder()
    with (
        httpcore.ConnectionPool(network_backend=backend) as pool,
        pytest.raises((httpcore.ConnectError, url_guard.Refused)),
    ):
        pool.request("POST", httpcore.URL(str(parsed)))
    return recorder.asked


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://example.org/",
        "ftp://example.org/",
        "data:text/plain,x",
        "javascript:alert(1)",
        "//example.org/",
        "example.org",
        "http://",
        "http:///path",
        "http://user@example.org/",
        "http://user:pass@example.org/",
        "http://ok@127.0.0.1/",
        "http://127.0.0.1\\@ok/",
        "http://127.0.0.1#@ok/",
        "http://example.org/#fragment",
        "http://exa mple.org/",
        "http://example.org/\r\nX: y",
        "http://example.org/" + "x" * 2048,
        "http://[::1/",
        "http://example.org:99999/",
    ],
)
def test_an_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(errors.CallbackRefused):
        url_guard.parse(url)


@pytest.mark.parametrize("port", [22, 25, 110, 6379, 5432, 9200, 2375, 11211])
def test_ports_of_other_services_are_refused(port: int) -> None:
    with pytest.raises(errors.CallbackRefused, match="port"):
        url_guard.parse(f"http://example.org:{port}/")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "[::1]",
        "0",
        "0.0.0.0",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "１２７.0.0.1",
        "①②⑦.0.0.1",
        "127。0。0。1",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[fec0::1]",
        "[3fff::1]",
        "[fe80::1]",
        "[fd00::1]",
        "[ff02::1]",
        "[::]",
        "169.254.169.254",
        "100.64.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "192.0.0.8",
        "192.88.99.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
    ],
)
def test_no_notation_of_a_private_ip_address_is_accepted(host: str) -> None:
    with pytest.raises(errors.CallbackRefused):
        url_guard.parse(f"http://{host}/hook")


def test_a_request_connects_to_exactly_the_checked_ip_address() -> None:
    assert ask("http://example.org/hook", [PUBLIC]) == [(PUBLIC, 80)]
    assert ask("https://example.org:8443/hook", ["2606:2800:21f::1"]) == [
        ("2606:2800:21f::1", 8443)
    ]
    assert ask(f"http://{PUBLIC}/", [PUBLIC]) == [(PUBLIC, 80)]


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        [PUBLIC, "127.0.0.1"],
        [PUBLIC, "::1"],
        ["10.0.0.7", PUBLIC],
        ["169.254.169.254"],
        ["fe80::1%eth0"],
        [],
    ],
)
def test_a_name_that_resolves_to_a_private_ip_address_is_refused(answers: list[str]) -> None:
    assert ask("http://example.org/", answers) == []


def test_a_name_that_changes_between_check_and_use_is_refused() -> None:
    url = "http://rebinding.example/"
    assert ask(url, [PUBLIC]) == [(PUBLIC, 80)]
    # The only relevant lookup is the one that the connection uses.
    assert ask(url, ["127.0.0.1"], [PUBLIC]) == []


def test_an_administrator_can_allow_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_CALLBACK_NETWORKS", "10.1.0.0/16, ::1/128")
    settings.clear()

    assert ask("http://intern.example/", ["10.1.2.3"]) == [("10.1.2.3", 80)]
    assert ask("http://[::1]:8080/", ["::1"]) == [("::1", 8080)]
    assert ask("http://intern.example/", ["10.2.0.1"]) == []
    with pytest.raises(errors.CallbackRefused):
        url_guard.parse("http://127.0.0.1/")


@pytest.mark.parametrize("text", ["8.8.8.8", "93.184.215.14", "2606:2800:21f:cb07::1"])
def test_public_ip_addresses_are_public(text: str) -> None:
    assert url_guard.is_public(ipaddress.ip_address(text))
