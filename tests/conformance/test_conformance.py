"""Replay every case against a running server and compare with what Triton answered.

One server for each configuration serves the whole session. TENSORHUB_CONFORMANCE=triton replays against a real Triton,
which shows that the recordings and the comparison are sound.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.standstill import Pulse, pulse_of_this_machine

from . import recordings, servers
from .cases import GROUPS
from .compare import differences
from .differences import DELIBERATE_DIFFERENCES
from .runner import run_case
from .steps import Case

_REAL = os.environ.get("TENSORHUB_CONFORMANCE") == "triton"
_RUNS = 5
"""Of a case, at most; see `test_case`."""
_ORDER = list(servers.CONFIGURATIONS)
_CASES = sorted(
    ((group, case) for group, cases in GROUPS.items() for case in cases),
    key=lambda item: _ORDER.index(item[1].server),
)


@pytest.fixture(scope="session")
def server_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], servers.Server]]:
    """The server of a configuration, started when first asked for; one that would not start is not tried again."""
    product = servers.triton() if _REAL else servers.tensorhub()
    started: dict[str, servers.Server | servers.StartError] = {}
    with ExitStack() as stack:

        def get(name: str) -> servers.Server:
            if name not in started:
                starting = servers.running(product, servers.CONFIGURATIONS[name], tmp_path_factory.mktemp(name))
                try:
                    started[name] = stack.enter_context(starting)
                except servers.StartError as error:
                    started[name] = error
            server = started[name]
            if isinstance(server, servers.StartError):
                pytest.fail(str(server), pytrace=False)
            return server

        yield get


@pytest.fixture(scope="session")
def pulse() -> Iterator[Pulse]:
    with pulse_of_this_machine() as found:
        yield found


@pytest.mark.parametrize(("group", "case"), [pytest.param(group, case, id=case.id) for group, case in _CASES])
def test_case(group: str, case: Case, server_of: Callable[[str], servers.Server], pulse: Pulse) -> None:
    """Some cases are about time: what they got says nothing if the machine stood still meanwhile, so they ask again."""
    recorded = recordings.read(group)
    assert case.id in recorded, "never recorded: run `make conformance-record`"
    deliberate = None if _REAL else DELIBERATE_DIFFERENCES.get(case.id)
    server = server_of(case.server)
    lines: list[str] = []
    for _ in range(_RUNS):
        began_s = time.monotonic()
        try:
            answers = run_case(case, server.target)
        except OSError as error:
            pytest.fail(f"{error}; the end of the server's log:\n{server.last_words()}", pytrace=False)
        lines = differences(recorded[case.id], answers, deliberate)
        if not lines:
            return
        if not pulse.stood_still(began_s, time.monotonic()):
            break
    pytest.fail("\n".join(lines), pytrace=False)


def test_recordings_and_cases_match() -> None:
    known = {group: {case.id for case in cases} for group, cases in GROUPS.items()}
    assert {path.stem: set(recordings.read(path.stem)) for path in recordings.FOLDER.glob("*.json")} == known


def test_every_deliberate_difference_names_a_case() -> None:
    assert set(DELIBERATE_DIFFERENCES) <= {case.id for _, case in _CASES}
