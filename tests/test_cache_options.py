"""What `--cache-config` may say."""

from __future__ import annotations

from typing import Any

import pytest

from tensorhub.cache_options import (
    PASSWORD_VARIABLE,
    USER_VARIABLE,
    LocalOptions,
    RedisOptions,
    RedisTls,
    cache_options,
    without_password,
)
from tensorhub.option_kinds import Scoped

PLACE = {"host": "cache.example", "port": "6379"}


def redis(**given: str) -> list[Scoped]:
    return [Scoped("redis", name, value) for name, value in given.items()]


def test_no_option_is_no_cache_and_the_last_size_counts() -> None:
    assert cache_options(()) is None
    assert cache_options([Scoped("local", "size", "5"), Scoped("local", "size", "70")]) == LocalOptions(70)


def test_a_redis_needs_a_place_and_nothing_more() -> None:
    assert cache_options(redis(**PLACE), {}) == RedisOptions("cache.example", 6379)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"user": "u", "password": "p"}, {"user": "u", "password": "p"}),
        ({"db": "3"}, {"db": 3}),
        ({"connect_timeout": "0", "socket_timeout": "5"}, {"connect_timeout_ms": 0, "socket_timeout_ms": 5}),
        ({"pool_size": "4", "wait_timeout": "7"}, {"pool_size": 4, "wait_timeout_ms": 7}),
        ({"tls_enabled": "true"}, {"tls": RedisTls()}),
        ({"tls_enabled": "false", "cacert": "x"}, {"tls": None}),
        (
            {"tls_enabled": "true", "cert": "a", "key": "b", "cacert": "c", "cacert_dir": "d", "sni": "e"},
            {"tls": RedisTls("a", "b", "c", "d", "e")},
        ),
    ],
)
def test_what_a_redis_can_be_told(given: dict[str, str], expected: dict[str, Any]) -> None:
    assert cache_options(redis(**PLACE, **given), {}) == RedisOptions("cache.example", 6379, **expected)


def test_user_and_password_come_from_the_environment_unless_they_are_said() -> None:
    environ = {USER_VARIABLE: "someone", PASSWORD_VARIABLE: "secret"}
    from_environ = cache_options(redis(**PLACE), environ)
    assert from_environ == RedisOptions("cache.example", 6379, "someone", "secret")
    said = cache_options(redis(**PLACE, user="me", password="mine"), environ)
    assert said == RedisOptions("cache.example", 6379, "me", "mine")
    assert "mine" not in repr(said)


def test_the_password_can_be_taken_off_a_command_line() -> None:
    given = redis(**PLACE, user="me", password="mine")
    kept, environ = without_password(given)
    assert kept == tuple(redis(**PLACE, user="me"))
    assert cache_options(kept, environ) == cache_options(given, {})
    assert without_password(redis(**PLACE)) == (tuple(redis(**PLACE)), {})


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([Scoped("local", "size", "-1")], "Got '-1'"),
        ([Scoped("local", "size", "9" * 30)], "Got '999"),
        ([Scoped("local", "size", "5"), Scoped("local", "other", "5")], "no setting 'other'"),
        ([Scoped("local", "size", "5"), Scoped("redis", "host", "x")], "found multiple cache configurations"),
        (redis(host="x"), "didn't specify address. Must at a minimum specify 'host' and 'port'"),
        (redis(port="1"), "didn't specify address"),
        (redis(host="", port="1"), "didn't specify address"),
        (redis(host="x", port="0"), "'port' of the cache 'redis' must be a number from 1 to 65535. Got '0'"),
        (redis(host="x", port="6379x"), "Got '6379x'"),
        (redis(**PLACE, db="-1"), "Got '-1'"),
        (redis(**PLACE, pool_size="0"), "from 1 to 64. Got '0'"),
        (redis(**PLACE, tls_enabled="yes"), "must be true or false. Got 'yes'"),
        (redis(**PLACE, cacert="x"), "'cacert' of the cache 'redis' needs redis,tls_enabled=true"),
        (redis(**PLACE, tls_enabled="true", key="x"), "needs redis,cert=<file>"),
        (redis(**PLACE, room="1"), "no setting 'room' .allowed: cacert, "),
        (redis(**PLACE, user="me"), "the user 'me' and no password"),
    ],
)
def test_what_makes_no_sense_is_refused(given: list[Scoped], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        cache_options(given, {})


def test_who_does_not_know_the_environment_does_not_judge_credentials() -> None:
    assert cache_options(redis(**PLACE, user="me")) == RedisOptions("cache.example", 6379, "me")
