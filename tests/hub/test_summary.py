"""What a person is told when a server has started."""

import io
import logging

import pytest

from tensorhub import settings
from tensorhub.frontend.catalog import Catalog, CatalogModel, ServedVersion
from tensorhub.hub.summary import Progress, endpoints, has_failed, model_rows, next_command


def model(wanted: bool, reason: str = "", **states: str) -> CatalogModel:
    versions = {
        int(number[1:]): ServedVersion("m", int(number[1:]), *state.split(":", 1), (), b"")
        for number, state in states.items()
    }
    return CatalogModel("m", versions, wanted, reason)


@pytest.mark.parametrize(
    ("found", "failed"),
    [
        (model(True, v1="READY:"), False),
        (model(True, v1="READY:", v2="UNAVAILABLE:unloaded"), False),
        (model(True, v1="READY:", v2="UNAVAILABLE:it raised"), True),
        (model(True, v1="UNAVAILABLE:it raised"), True),
        (model(True, "no config"), True),
        (model(True, v1="LOADING:"), False),
        (model(False, "no config"), False),
        (model(False), False),
    ],
)
def test_a_model_has_failed_if_it_should_be_served_and_is_not(found: CatalogModel, failed: bool) -> None:
    assert has_failed(found) is failed


def test_every_version_has_a_row() -> None:
    rows = model_rows([model(True, v2="READY:", v1="UNAVAILABLE:it raised")])
    assert [(row.version, row.state, row.reason) for row in rows] == [
        ("1", "UNAVAILABLE", "it raised"),
        ("2", "READY", ""),
    ]
    assert [row.reason for row in model_rows([model(True, "no config")])] == ["no config"]


def test_addresses_are_those_of_the_options() -> None:
    chosen = settings.load(["--run-dir=/tmp/x", "--http-address=::1"], {})
    assert [(item.service, item.address) for item in endpoints(chosen)] == [
        ("HTTP", "[::1]:8000"),
        ("gRPC", "0.0.0.0:8001"),
        ("Metrics", "[::1]:8002"),
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("add_sub", "tensorhub infer add_sub --random --url 127.0.0.1:9"),
        ("", "tensorhub status --url 127.0.0.1:9"),
        ("x;reboot", "tensorhub status --url 127.0.0.1:9"),
        ("-x", "tensorhub status --url 127.0.0.1:9"),
    ],
)
def test_the_next_command_is_safe_to_paste(name: str, expected: str) -> None:
    assert (
        next_command(settings.load(["--run-dir=/tmp/x", "--http-address=127.0.0.1", "--http-port=9"], {}), name)
        == expected
    )


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _loading() -> Catalog:
    catalog = Catalog()
    catalog.models = {
        "m": model(True, v1="LOADING:loading: making instance 1 of 2 on cpu0"),
        "n": model(True, v1="READY:"),
    }
    return catalog


def test_a_terminal_has_one_line_that_is_written_over() -> None:
    stream = _Terminal()
    progress = Progress(stream, 100.0)
    assert progress.due_s == float("inf")
    progress.show(_loading(), 100.1)
    assert stream.getvalue().startswith("\rLoading models 1/2: m")
    progress.end()
    assert stream.getvalue().endswith("\r")


def test_a_log_has_a_line_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stream = io.StringIO()
    progress = Progress(stream, 100.0)
    due = []
    for now in (100.1, 104.9, 105.0, 106.0, 115.0, 135.0, 175.0, 235.0, 300.0):
        before = len(caplog.messages)
        progress.show(_loading(), now)
        due += [now] * (len(caplog.messages) - before)
    assert due == [105.0, 115.0, 135.0, 175.0, 235.0, 300.0]
    assert set(caplog.messages) == {"Loading models 1/2: m (making instance 1 of 2 on cpu0)"}
    assert stream.getvalue() == ""
    progress.end()
    assert progress.due_s == float("inf")
