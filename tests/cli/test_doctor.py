"""`tensorhub doctor`: what it finds, with and without something wrong."""

import json
from pathlib import Path

import pytest

from tensorhub.cli.doctor import BAD, GOOD, WARNING, Report, Side, compare, compare_gpus
from tensorhub.cli.main import main
from tests.serving import RunningServer, free_ports, serving

HERE = Side(1, 1000, (1000,), 5, {"ipc": "1", "pid": "2"}, ("GPU-a",))


def _findings(report: Report) -> list[tuple[str, str]]:
    return [(finding.state, finding.text + " -> " + finding.remedy) for finding in report.findings]


def test_a_server_with_which_it_works(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--url", server.http]) == 0
    text = capsys.readouterr().out
    assert "a segment was made here, registered, and let go" in text
    assert "has the same /dev/shm" in text
    assert "runs as the same user: memory is used in place" in text
    assert main(["doctor", "--url", server.http, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["here"]["shm_device"] == Path("/dev/shm").stat().st_dev
    assert document["servers"]
    assert not [item for item in document["findings"] if item["state"] == BAD]


def test_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    [port] = free_ports(1)
    assert main(["doctor", "--url", f"127.0.0.1:{port}"]) == 1
    assert "or name it with --url" in capsys.readouterr().out


def test_a_server_that_takes_no_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path, ["--allow-client-shm=false"]) as running:
        assert main(["doctor", "--url", running.http]) == 1
    text = capsys.readouterr().out
    assert "-> the server has --allow-client-shm=false" in text


def test_sides_that_differ() -> None:
    report = Report()
    compare(report, HERE, Side(2, 0, (), 6, {"ipc": "9", "pid": "2"}))
    found = _findings(report)
    assert (found[0][0], found[0][1].partition(" -> ")[0]) == (BAD, "the worker with pid 2 has another /dev/shm")
    assert any(state == WARNING and "--shm-allowed-uids=1000" in text for state, text in found)
    assert any(
        state == WARNING and "docker run --ipc=host" in text and "ipc namespace" in text for state, text in found
    )
    report = Report()
    compare(report, HERE, Side(2, 1000, (), 5, {"ipc": "1", "pid": "2"}))
    assert {finding.state for finding in report.findings} == {GOOD}


@pytest.mark.parametrize(
    ("there", "state", "text"),
    [
        (None, WARNING, "--metrics-url"),
        ([], BAD, "the server sees no GPU"),
        (["GPU-b"], BAD, "the server's GPUs are others: GPU-b"),
        (["GPU-b", "GPU-a"], GOOD, "GPUs of both sides: GPU-a"),
    ],
)
def test_gpus_of_both_sides(there: list[str] | None, state: str, text: str) -> None:
    report = Report()
    compare_gpus(report, ["GPU-a"], there)
    [(found, account)] = _findings(report)
    assert found == state
    assert text in account
