"""API tokens and rate limits with a real Redis."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
import redis

from ocr_tasks import cli, errors, settings
from ocr_tasks.model import Scope
from ocr_tasks.redis import connection, keys
from ocr_tasks.security import rate_limits, tokens

pytestmark = pytest.mark.usefixtures("service")

READ = frozenset({Scope.READ})


def everything_in(client: redis.Redis) -> str:
    """Returns the names and values of all keys of Redis as one text."""
    readers: dict[str, Callable[[str], object]] = {
        "string": client.get,
        "hash": client.hgetall,
        "set": client.smembers,
        "list": lambda key: client.lrange(key, 0, -1),
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    return "\n".join(f"{key}: {readers[client.type(key)](key)}" for key in client.scan_iter("*"))


def test_a_token_is_verified_and_has_its_scopes() -> None:
    made, text = tokens.create("archive", {Scope.READ, Scope.SUBMIT}, limits={"pages_day": 7})

    found = tokens.verify(text)

    assert re.fullmatch(r"ocrt_[0-9a-f]{12}_[0-9a-f]{64}", text)
    assert found == made
    assert (found.name, found.limits) == ("archive", {"pages_day": 7})
    assert found.scopes == {Scope.READ, Scope.SUBMIT}
    assert found.expires_at is None


def test_redis_never_sees_the_secret(service: redis.Redis) -> None:
    _token, text = tokens.create("archive", READ)
    tokens.verify(text)
    secret = text.rpartition("_")[2]

    stored = everything_in(service)

    assert "archive" in stored
    assert secret not in stored


@pytest.mark.parametrize(
    "wrong",
    [
        lambda text: "",
        lambda text: text[:-1],
        lambda text: text + "0",
        lambda text: text.upper(),
        lambda text: text.replace("ocrt_", "ocrt-"),
        lambda text: text[:-64] + "0" * 64,
        lambda text: f"ocrt_{'0' * 12}_{text[-64:]}",
        lambda text: text.rpartition("_")[0] + "_",
        lambda text: f" {text}",
        lambda text: text + "\n",
        lambda text: "ocrt_*_" + text[-64:],
    ],
)
def test_any_other_token_is_refused_with_the_same_message(wrong: Callable[[str], str]) -> None:
    _token, text = tokens.create("archive", READ)

    with pytest.raises(errors.NotAuthenticated) as refused:
        tokens.verify(wrong(text))

    assert str(refused.value) == errors.NotAuthenticated.title


def test_the_secret_of_one_token_is_refused_with_the_id_of_another() -> None:
    _one, first = tokens.create("one", READ)
    two, _second = tokens.create("two", READ)

    with pytest.raises(errors.NotAuthenticated):
        tokens.verify(f"ocrt_{two.id}_{first[-64:]}")


def test_a_revoked_token_is_refused_and_stays_in_the_list() -> None:
    token, text = tokens.create("archive", READ)
    tokens.check(token.id)

    assert tokens.revoke(token.id)

    with pytest.raises(errors.NotAuthenticated):
        tokens.verify(text)
    with pytest.raises(errors.NotAuthenticated):
        tokens.check(token.id)
    (listed,) = tokens.list_all()
    assert listed.revoked_at is not None
    assert tokens.has_ended(listed)
    assert tokens.revoke(token.id)
    assert tokens.list_all() == [listed]


def test_a_temporary_secret_has_some_scopes_of_its_token_until_it_is_revoked() -> None:
    token, _ = tokens.create("a", {Scope.OCRD, Scope.READ})
    other, _ = tokens.create("b", {Scope.OCRD})
    text = tokens.create_temporary(token.id, [Scope.OCRD, Scope.SUBMIT], 60)

    found = tokens.verify(text)

    assert (found.id, found.scopes) == (token.id, {Scope.OCRD})
    with pytest.raises(errors.NotAuthenticated):
        tokens.verify(text.replace(token.id, other.id))
    tokens.revoke_temporary(text)
    with pytest.raises(errors.NotAuthenticated):
        tokens.verify(text)


def test_a_temporary_secret_of_an_administrator_has_only_its_own_scopes() -> None:
    token, _ = tokens.create("a", {Scope.ADMIN})

    assert tokens.verify(tokens.create_temporary(token.id, [Scope.OCRD], 60)).scopes == {Scope.OCRD}


def test_a_temporary_secret_expires_and_ends_with_its_token(service: redis.Redis) -> None:
    token, _ = tokens.create("a", {Scope.OCRD})
    text = tokens.create_temporary(token.id, [Scope.OCRD], 60)
    without_scope = tokens.create_temporary(token.id, [Scope.READ], 60)
    assert tokens.verify(without_scope).scopes == frozenset()
    (ttl, *_) = {service.ttl(key) for key in service.keys("*temporary*")}

    tokens.revoke(token.id)

    assert 50 < ttl <= 60
    for ended in (text, without_scope, tokens.create_temporary("0" * 12, [Scope.OCRD], 60)):
        with pytest.raises(errors.NotAuthenticated):
            tokens.verify(ended)


def test_an_invalid_token_cannot_be_revoked(service: redis.Redis) -> None:
    assert not tokens.revoke("000000000000")
    assert service.keys("*") == []


def test_a_token_can_be_revoked_when_redis_is_full(service: redis.Redis) -> None:
    token, text = tokens.create("archive", READ)
    service.config_set("maxmemory", 1)
    try:
        with pytest.raises(errors.QueueUnavailable):
            tokens.revoke(token.id)  # the time of the revocation could not be stored
        with pytest.raises(errors.NotAuthenticated):
            tokens.verify(text)
    finally:
        service.config_set("maxmemory", 0)


def test_a_token_works_when_redis_is_full(service: redis.Redis) -> None:
    _token, text = tokens.create("archive", READ)
    service.config_set("maxmemory", 1)
    try:
        assert tokens.verify(text).used_at is None
    finally:
        service.config_set("maxmemory", 0)


def test_an_expired_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    token, text = tokens.create("archive", READ, days=1)
    assert token.expires_at is not None
    tokens.verify(text)

    monkeypatch.setattr(time, "time", lambda: token.expires_at)

    with pytest.raises(errors.NotAuthenticated):
        tokens.verify(text)
    with pytest.raises(errors.NotAuthenticated):
        tokens.check(token.id)
    assert tokens.has_ended(token)


def test_the_last_use_is_stored_once_a_minute(
    service: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, text = tokens.create("archive", READ)
    begun = time.time()

    def used_at(moment: float) -> float:
        monkeypatch.setattr(time, "time", lambda: moment)
        tokens.verify(text)
        return float(service.hget(keys.token(token.id), "used") or 0)

    assert used_at(begun) == begun
    assert used_at(begun + 59) == begun
    assert used_at(begun + 61) == begun + 61


def test_verifying_takes_one_request_to_redis(
    service: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    _token, text = tokens.create("archive", READ)
    tokens.verify(text)
    asked: list[object] = []
    ask = redis.Redis.execute_command
    monkeypatch.setattr(
        redis.Redis,
        "execute_command",
        lambda self, *words, **more: (asked.append(words[0]), ask(self, *words, **more))[1],
    )

    tokens.verify(text)

    assert asked == ["HGETALL"]


def test_tokens_cannot_be_verified_without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    _token, text = tokens.create("archive", READ)
    monkeypatch.setenv("OCR_REDIS_URL", "unix:///nowhere/redis.sock")
    settings.clear()
    connection.client.cache_clear()

    with pytest.raises(errors.QueueUnavailable):
        tokens.verify(text)
    with pytest.raises(errors.QueueUnavailable):
        rate_limits.spend("somebody", "requests_minute", 5)


# Command line


def run(*words: str) -> int:
    try:
        return cli.main(["tokens", *words])
    except SystemExit as ended:
        return int(ended.code or 0)


def test_a_token_is_created_and_shown_once(
    service: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run("create", "the archive", "--scopes", "submit,read", "--days", "30",
               "--pages-day", "500", "--waiting-jobs", "0")  # fmt: skip
    said = capsys.readouterr()
    text = said.out.strip()

    assert code == 0
    token = tokens.verify(text)
    assert token.name == "the archive"
    assert token.scopes == {Scope.SUBMIT, Scope.READ}
    assert token.limits == {"pages_day": 500, "waiting_jobs": 0}
    assert token.expires_at is not None
    assert abs(token.expires_at - token.created_at - 30 * 86400) < 1
    assert token.id in said.err
    assert text not in said.err
    assert run("list") == 0
    listed = capsys.readouterr().out
    assert token.id in listed
    assert "the archive" in listed
    assert "read,submit" in listed
    assert text[-64:] not in listed


def test_ended_tokens_are_listed_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    token, _text = tokens.create("archive", READ)
    assert run("revoke", token.id) == 0
    capsys.readouterr()

    run("list")
    assert token.id not in capsys.readouterr().out
    run("list", "--all")
    assert "revoked" in capsys.readouterr().out


def test_revoking_an_unknown_token_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("revoke", "nonsense") == 1
    assert "there is no token nonsense" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["create", "x"],
        ["create", "x", "--scopes", "read,everything"],
        ["create", "x", "--scopes", ""],
        ["create", " ", "--scopes", "read"],
        ["create", "a\nb", "--scopes", "read"],
        ["create", "x" * 101, "--scopes", "read"],
        ["create", "x", "--scopes", "read", "--days", "0"],
        ["create", "x", "--scopes", "read", "--days", "nan"],
        ["create", "x", "--scopes", "read", "--pages-day", "-1"],
        [],
    ],
)
def test_an_invalid_command_creates_no_token(words: list[str], service: redis.Redis) -> None:
    assert run(*words) == 2
    assert service.keys("*") == []


def test_without_redis_the_command_names_what_to_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OCR_REDIS_URL", "unix:///nowhere/redis.sock")
    settings.clear()
    connection.client.cache_clear()

    assert run("list") == 69
    assert "ocr-tasks up" in capsys.readouterr().err


# Rate limits


def test_a_limit_allows_its_number_of_requests_and_reports_when_to_retry() -> None:
    for _ in range(3):
        rate_limits.spend("somebody", "requests_minute", 3)

    with pytest.raises(errors.LimitReached) as refused:
        rate_limits.spend("somebody", "requests_minute", 3)

    assert refused.value.extra["limit"] == "requests_minute"
    assert refused.value.extra["most"] == 3
    assert 1 <= refused.value.retry_after <= 60
    assert "3 requests per minute" in refused.value.detail
    rate_limits.spend("somebody else", "requests_minute", 3)
    rate_limits.spend("somebody", "submits_minute", 3)


def test_without_a_limit_there_is_no_key(service: redis.Redis) -> None:
    rate_limits.spend("somebody", "requests_minute", 0)

    assert service.keys("*") == []


def test_refused_requests_do_not_count() -> None:
    rate_limits.spend("somebody", "pages_day", 100, 60)
    for _ in range(5):
        with pytest.raises(errors.LimitReached):
            rate_limits.spend("somebody", "pages_day", 100, 41)

    rate_limits.spend("somebody", "pages_day", 100, 40)


def test_the_key_of_a_window_expires_with_it(service: redis.Redis) -> None:
    rate_limits.spend("somebody", "requests_minute", 1)
    (key,) = service.keys(f"{keys.LIMITS}:*")
    assert 0 < service.ttl(key) <= 60
    service.delete(key)  # as Redis does a minute later

    rate_limits.spend("somebody", "requests_minute", 1)
    rate_limits.spend("somebody", "pages_day", 5, 2)
    assert max(service.ttl(key) for key in service.keys(f"{keys.LIMITS}:*")) > 3600


def test_the_limits_of_a_token_match_the_settings() -> None:
    for name in (*tokens.LIMITS, "failures_minute"):
        assert f"limit_{name}" in settings.Settings.model_fields
