"""The command line, and what is decided from addresses."""

from pathlib import Path

import pytest

from tensorhub import settings
from tensorhub.grpc.engine import EngineUnfit, ListenError
from tensorhub.grpc.listening import check_port
from tensorhub.grpc.main import let_the_loop_poll
from tensorhub.grpc.options import GrpcOptions, from_settings
from tensorhub.grpc.peers import is_on_this_host, is_own_address
from tensorhub.grpc.reactor import ReactorEngine
from tensorhub.grpc.self_test import choose, reactor
from tensorhub.grpc.threads import ThreadsEngine


def options_of(*arguments: str) -> GrpcOptions:
    return from_settings(settings.load(arguments, {"TENSORHUB_RUN_DIR": "/x"}))


def test_defaults_are_tritons() -> None:
    options = options_of()
    assert (options.host, options.port, options.reuse_port, options.run_dir) == ("0.0.0.0", 8001, False, Path("/x"))
    assert dict(options.channel_options) == {
        "grpc.so_reuseport": 0,
        "grpc.keepalive_time_ms": 7_200_000,
        "grpc.keepalive_timeout_ms": 20_000,
        "grpc.keepalive_permit_without_calls": 0,
        "grpc.http2.max_pings_without_data": 2,
        "grpc.http2.min_ping_interval_without_data_ms": 300_000,
        "grpc.http2.max_ping_strikes": 2,
    }
    assert (options.compression_level, options.tls, options.engine) == (0, None, "auto")
    assert (options.exit_timeout_s, options.rules) == (30.0, {})


def test_what_is_given() -> None:
    arguments = "--grpc-port=9 --grpc-address ::1 --reuse-grpc-port=1 --grpc-max-connection-age=5 "
    arguments += "--grpc-max-connection-age-grace=6 --grpc-infer-response-compression-level=high "
    arguments += "--grpc-keepalive-permit-without-calls=true --grpc-header-forward-pattern=x.* --exit-timeout-secs=3"
    options = options_of(*arguments.split())
    assert (options.address, options.reuse_port, options.exit_timeout_s) == ("[::1]:9", True, 3.0)
    given = dict(options.channel_options)
    assert given["grpc.max_connection_age_ms"] == 5
    assert given["grpc.max_connection_age_grace_ms"] == 6
    assert given["grpc.so_reuseport"] == given["grpc.keepalive_permit_without_calls"] == 1
    assert (options.compression_level, options.rules) == (3, {"grpc-header-forward-pattern": "x.*"})


def test_tls_files() -> None:
    tls = options_of("--grpc-use-ssl=true", "--grpc-server-cert=c", "--grpc-server-key=k").tls
    assert tls is not None
    assert (tls.certificate, tls.key, tls.root, tls.mutual) == (Path("c"), Path("k"), None, False)
    tls = options_of(
        "--grpc-use-ssl-mutual=on", "--grpc-server-cert=c", "--grpc-server-key=k", "--grpc-root-cert=r"
    ).tls
    assert tls is not None
    assert (tls.root, tls.mutual) == (Path("r"), True)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--grpc-use-ssl=true"], "--grpc-server-cert"),
        (["--grpc-use-ssl-mutual=true", "--grpc-server-cert=c", "--grpc-server-key=k"], "--grpc-root-cert"),
    ],
)
def test_files_that_are_missing(arguments: list[str], text: str) -> None:
    with pytest.raises(settings.SettingsError, match=text):
        options_of(*arguments)


def test_a_variable_that_is_set_stays() -> None:
    environ = {"GRPC_EXPERIMENTS": "mine"}
    let_the_loop_poll(environ)
    assert environ == {"GRPC_EXPERIMENTS": "mine"}


@pytest.mark.parametrize(
    ("peer", "here"),
    [
        ("ipv4:127.0.0.1:4711", True),
        ("ipv4:127.8.8.8:1", True),
        ("ipv6:%5B::1%5D:4711", True),
        ("ipv6:[::1]:4711", True),
        ("ipv6:%5B::ffff:127.0.0.1%5D:4711", True),
        ("unix:", True),
        ("unix:/run/x", True),
        ("ipv4:10.1.2.3:1", True),  # own
        ("ipv6:%5B::ffff:10.1.2.3%5D:4711", True),
        ("ipv4:10.1.2.4:1", False),
        ("ipv6:%5Bfe80::1%25eth0%5D:9", False),
        ("ipv6:%5B2001:db8::1%5D:4711", False),
        ("ipv4:nonsense", False),
        ("", False),
        ("vsock:2:1", False),
    ],
)
def test_who_is_on_this_host(peer: str, here: bool) -> None:
    assert is_on_this_host(peer, lambda address: address == "10.1.2.3") is here


def test_own_addresses() -> None:
    assert is_own_address("127.0.0.1")
    assert not is_own_address("192.0.2.1")


def test_a_port_that_is_not_ours() -> None:
    with pytest.raises(ListenError, match="cannot listen on 192"):
        check_port("192.0.2.1", 21402, shared=False)
    with pytest.raises(ListenError, match="--grpc-address"):
        check_port("no such host", 21402, shared=False)


def test_the_reactor_fits_this_grpcio() -> None:
    assert reactor() is ReactorEngine
    assert choose("auto") is ReactorEngine
    assert choose("reactor") is ReactorEngine
    assert choose("threads") is ThreadsEngine


def test_another_grpcio_falls_back(caplog: pytest.LogCaptureFixture) -> None:
    def unfit() -> type[ReactorEngine]:
        raise EngineUnfit("it has no Server")

    assert choose("auto", unfit) is ThreadsEngine
    assert "it has no Server" in caplog.text
    with pytest.raises(EngineUnfit):
        choose("reactor", unfit)


def test_a_changed_private_layer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(self: ReactorEngine) -> None:
        self._server.call_requested(self._queue)  # type: ignore[attr-defined]

    monkeypatch.setattr(ReactorEngine, "_ask", changed)
    with pytest.raises(EngineUnfit, match="AttributeError"):
        reactor()
