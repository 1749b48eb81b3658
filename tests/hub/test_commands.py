"""The command lines of a server's processes are understood by those processes."""

from dataclasses import replace

import pytest

from tensorhub import settings
from tensorhub.hub.commands import commands
from tensorhub.ipc.wire import Role


def names(*argv: str) -> list[str]:
    return [command.name for command in commands(settings.load(["--run-dir=/tmp/x", *argv], {}))]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ((), ["hub", "cpu0", "http", "grpc0"]),
        (("--workers=2", "--grpc-workers=2"), ["hub", "cpu0", "cpu1", "http", "grpc0", "grpc1"]),
        (("--allow-http=false",), ["hub", "cpu0", "grpc0"]),
        (("--allow-grpc=false",), ["hub", "cpu0", "http"]),
    ],
)
def test_the_options_say_which_processes_there_are(argv: tuple[str, ...], expected: list[str]) -> None:
    assert names("--workers=1", "--grpc-workers=1", *argv) == expected


def test_the_grpc_daemon_understands_its_command_line() -> None:
    chosen = settings.load(
        [
            "--run-dir=/tmp/x",
            "--model-repository=/models",
            "--grpc-port=9001",
            "--grpc-workers=2",
            "--grpc-keepalive-time=7",
            "--exit-timeout-secs=3",
            "--log-verbose=1",
        ],
        {},
    )
    command = next(item for item in commands(chosen) if item.role is Role.GRPC)
    understood = settings.load(command.argv[3:], {})
    assert understood.grpc.reuse_grpc_port  # as there are two of them
    own = replace(understood, grpc=replace(understood.grpc, reuse_grpc_port=False))
    assert own.as_strings() == chosen.as_strings()


def test_http_is_told_by_its_environment() -> None:
    chosen = settings.load(["--run-dir=/tmp/x", "--http-address=[::1]", "--http-port=9000", "--log-info=false"], {})
    command = next(item for item in commands(chosen) if item.role is Role.HTTP)
    assert command.environ["TENSORHUB_HTTP_ADDRESS"] == "::1"
    assert command.environ["TENSORHUB_HTTP_PORT"] == "9000"
    assert command.environ["TENSORHUB_RUN_DIR"] == "/tmp/x"
    assert command.environ["TENSORHUB_LOG_INFO"] == "false"


def test_only_workers_are_not_vital() -> None:
    chosen = settings.load(["--run-dir=/tmp/x"], {})
    assert {command.role for command in commands(chosen) if not command.vital} == {Role.WORKER}
