"""The connection to Redis, with a real server: what is asked, what is refused, and what is said when it fails."""

from __future__ import annotations

import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tensorhub import redis_link
from tensorhub.cache_options import RedisOptions, RedisTls
from tensorhub.redis_link import RedisFault, RedisLink, check_redis
from tests.certificates import Certificates, make_certificates
from tests.redis_server import RedisServer, redis_server
from tests.serving import free_ports
from tests.tls_proxy import tls_proxy
from tests.waiting import wait_until

pytest.importorskip("redis")

_GUEST = ("--user", "guest", "on", ">guestpass", "~*", "+get", "+getrange", "+ping")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    options = ("--requirepass", "secret", *_GUEST)
    with redis_server(tmp_path_factory.mktemp("redis"), *options) as running:
        yield running


@pytest.fixture
def options(server: RedisServer) -> RedisOptions:
    """Of a link that waits, however slow the machine is."""
    return RedisOptions(
        "127.0.0.1", server.port, password="secret", connect_timeout_ms=60_000, socket_timeout_ms=60_000
    )


@pytest.fixture
def hasty(options: RedisOptions) -> RedisOptions:
    """Of a link that does not wait for a server that hangs."""
    return replace(options, socket_timeout_ms=300)


@pytest.fixture
def link(options: RedisOptions) -> Iterator[RedisLink]:
    with closing(RedisLink(options)) as opened:
        yield opened


def test_what_was_stored_is_fetched_up_to_a_limit(link: RedisLink) -> None:
    assert link.store([("a", b"\0\xff" * 50, 0), ("b", b"short", 100)]) == ""
    assert link.fetch(["a", "nothing", "b"], 10) == [b"\0\xff" * 5 + b"\0", b"", b"short"]


def test_how_long_a_value_is_of_use_is_told(link: RedisLink) -> None:
    link.store([("ends", b"x", 100), ("stays", b"x", 0)])
    client: Any = link._client
    assert 0 < client.ttl("ends") <= 100
    assert client.ttl("stays") == -1


def test_what_is_no_string_is_none(link: RedisLink) -> None:
    client: Any = link._client
    client.delete("list")
    client.rpush("list", "x")
    link.store([("after", b"y", 0)])
    assert link.fetch(["list", "after"], 10) == [None, b"y"]


def test_a_refusal_to_store_is_told_and_no_fault(options: RedisOptions) -> None:
    with closing(RedisLink(replace(options, user="guest", password="guestpass"))) as guest:
        assert "no permissions" in guest.store([("a", b"x", 0)])
        assert guest.fetch(["nothing"], 10) == [b""]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"password": "wrong"}, "invalid username-password|invalid password"),
        ({"password": ""}, "Authentication required|NOAUTH"),
        ({"user": "nobody", "password": "x"}, "invalid username-password"),
        ({"db": 99}, "DB index is out of range"),
        ({"port": 1}, "Connection refused"),
        ({"host": "no.such.host.invalid"}, "no.such.host.invalid"),
    ],
)
def test_who_is_not_let_in_is_told_why_without_the_password(
    options: RedisOptions, changed: dict[str, Any], text: str
) -> None:
    with pytest.raises(RedisFault, match=text) as caught:
        check_redis(replace(options, **changed))
    assert "secret" not in str(caught.value)


def test_a_server_that_answers_is_fine(options: RedisOptions) -> None:
    check_redis(options)
    check_redis(replace(options, db=3))


def test_a_connection_that_was_closed_meanwhile_is_made_anew(link: RedisLink, options: RedisOptions) -> None:
    link.store([("a", b"1", 0)])
    with closing(RedisLink(options)) as other:
        other._client.client_kill_filter(_type="normal", skipme=True)
    assert link.fetch(["a"], 10) == [b"1"]


def test_a_server_that_does_not_answer_is_given_up_and_the_next_answer_is_the_right_one(
    server: RedisServer, link: RedisLink, hasty: RedisOptions
) -> None:
    link.store([("first", b"1", 0), ("second", b"2", 0)])
    with closing(RedisLink(hasty)) as impatient:
        wait_until(lambda: _answer(impatient, "first") == [b"1"], "it is connected")
        server.signal(signal.SIGSTOP)
        try:
            with pytest.raises(RedisFault, match="Timeout reading"):
                impatient.fetch(["first"], 10)
        finally:
            server.signal(signal.SIGCONT)
        found: list[list[bytes | None] | None] = []
        wait_until(lambda: found.append(_answer(impatient, "second")) or found[-1], "it answers again")
        assert found[-1] == [b"2"]


def _answer(link: RedisLink, key: str) -> list[bytes | None] | None:
    """Return what is fetched, None if the server is too slow for this link."""
    try:
        return link.fetch([key], 10)
    except RedisFault:
        return None


def test_what_is_no_redis_is_a_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1_000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with pytest.raises(RedisFault):
            check_redis(RedisOptions("127.0.0.1", listener.getsockname()[1], socket_timeout_ms=300))


def test_a_missing_extra_names_the_remedy(options: RedisOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    with pytest.raises(RedisFault, match=r"needs the extra redis: pip install 'tensorhub\[redis\]'"):
        check_redis(options)
    assert redis_link.NO_REDIS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.server_key)
    return context


class TestEncrypted:
    def test_the_server_is_known_by_its_authority(
        self, options: RedisOptions, context: ssl.SSLContext, certificates: Certificates
    ) -> None:
        with tls_proxy(context, options.port) as proxy:
            encrypted = replace(options, port=proxy.port, tls=RedisTls(cacert=str(certificates.authority)))
            check_redis(encrypted)
            with closing(RedisLink(encrypted)) as link:
                link.store([("tls", b"x" * 100_000, 0)])
                assert link.fetch(["tls"], 200_000) == [b"x" * 100_000]
            for refused in (RedisTls(), RedisTls(cacert=str(certificates.stranger))):
                with pytest.raises(RedisFault, match="CERTIFICATE_VERIFY_FAILED"):
                    check_redis(replace(encrypted, tls=refused))

    def test_the_certificate_must_have_the_name_that_is_expected(
        self, options: RedisOptions, context: ssl.SSLContext, certificates: Certificates
    ) -> None:
        authority = str(certificates.authority)
        with tls_proxy(context, options.port) as proxy:
            encrypted = replace(options, port=proxy.port, tls=RedisTls(cacert=authority, sni="localhost"))
            check_redis(encrypted)
            assert proxy.asked_names == ["localhost"]
            with pytest.raises(RedisFault, match="Hostname mismatch"):
                check_redis(replace(encrypted, tls=RedisTls(cacert=authority, sni="other.example")))

    def test_we_show_a_certificate_if_we_have_one(
        self, options: RedisOptions, context: ssl.SSLContext, certificates: Certificates
    ) -> None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates.authority)
        with tls_proxy(context, options.port) as proxy:
            tls = RedisTls(str(certificates.client), str(certificates.client_key), str(certificates.authority))
            check_redis(replace(options, port=proxy.port, tls=tls))
            with pytest.raises(RedisFault):
                check_redis(replace(options, port=proxy.port, tls=replace(tls, cert="", key="")))

    @pytest.mark.parametrize("name", ["cacert", "cert"])
    def test_a_file_that_is_not_there_is_named(self, options: RedisOptions, name: str, tmp_path: Path) -> None:
        tls = replace(RedisTls(), **{name: str(tmp_path / "nothing.pem")})
        with pytest.raises(RedisFault, match="No such file"):
            check_redis(replace(options, tls=tls))

    def test_a_server_without_tls_is_a_fault(self, hasty: RedisOptions) -> None:
        with pytest.raises(RedisFault):
            check_redis(replace(hasty, tls=RedisTls()))


def test_a_server_that_is_not_there_is_a_fault() -> None:
    with pytest.raises(RedisFault, match="Connection refused"):
        check_redis(RedisOptions("127.0.0.1", free_ports(1)[0]))
