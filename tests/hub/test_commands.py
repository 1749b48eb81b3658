"""The command lines of a server's processes are understood by those processes."""

import pytest

from tensorhub import settings
from tensorhub.grpc import options as grpc_options
from tensorhub.hub.commands import GRPC_OPTIONS, commands
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
    options = grpc_options.parse(command.argv[3:], {}, 1000)
    assert options.port == 9001
    assert options.reuse_port
    assert options.exit_timeout_s == 3.0
    assert str(options.run_dir) == "/tmp/x"


def test_the_grpc_daemon_knows_every_option_that_it_may_get() -> None:
    text = grpc_options.parser(grpc_options.default_run_dir({}, 0)).format_help()
    assert [name for name in GRPC_OPTIONS if f"--{name} " not in text] == []
    assert [name for name in GRPC_OPTIONS if name not in settings.OPTIONS] == []


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
