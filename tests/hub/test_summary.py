"""What a person is told when a server has started."""

import pytest

from tensorhub import settings
from tensorhub.frontend.catalog import CatalogModel, ServedVersion
from tensorhub.hub.summary import endpoints, has_failed, model_rows, next_command


def model(wanted: bool, reason: str = "", **states: str) -> CatalogModel:
    versions = {
        int(number[1:]): ServedVersion("m", int(number[1:]), *state.split(":"), (), b"")
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
