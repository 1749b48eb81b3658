"""What a person is told to type is what this person can type."""

from pathlib import Path

import pytest

from tensorhub.cli.program import own_name


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.setenv("PATH", str(tmp_path))
    return monkeypatch


def test_a_command_that_is_found(called: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tensorhub").touch(0o755)
    assert own_name() == "tensorhub"


def test_a_command_that_is_called_by_its_path(called: pytest.MonkeyPatch) -> None:
    called.setattr("sys.argv", [".venv/bin/tensorhub", "serve"])
    assert own_name() == ".venv/bin/tensorhub"
    called.setattr("sys.argv", ["/my programs/tensorhub", "serve"])
    assert own_name() == "'/my programs/tensorhub'"


def test_a_module_that_is_run(called: pytest.MonkeyPatch) -> None:
    called.setattr("sys.argv", ["/x/tensorhub/__main__.py", "serve"])
    called.setattr("sys.executable", "/usr/bin/python3")
    assert own_name() == "/usr/bin/python3 -m tensorhub"
