"""What `make check` refuses, and that it goes on after a failure."""

from pathlib import Path

import pytest

from tools import check, compile_protos, forbidden


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("import pickle", 1),
        ("from marshal import loads", 1),
        ("def f():\n    import shelve", 2),
        ("from multiprocessing import shared_memory", 1),
        ("from multiprocessing.shared_memory import SharedMemory", 1),
        ("import multiprocessing.shared_memory", 1),
        ("x = eval('1')", 1),
        ("exec(text)", 1),
        ("import zmq\nsocket.bind('tcp://*:1')", 2),
        ("import zmq\nsocket.connect(address)", 2),
        ("from zmq import Socket\nsocket.connect(f'{x}ipc://')", 2),
    ],
)
def test_module_that_runs_bytes_or_opens_a_socket_is_refused(source: str, line: int) -> None:
    (found,) = forbidden.in_module("tensorhub/some.py", source)
    assert found.startswith(f"{line}: ")


@pytest.mark.parametrize(
    "source",
    [
        "import zmq\nsocket.bind(f'ipc://{path}')",
        "import socket\nconnection.connect(path)",
        "request.exec()",
        "'''the model runs eval and pickle'''",
    ],
)
def test_module_may(source: str) -> None:
    assert list(forbidden.in_module("tensorhub/some.py", source)) == []


def test_path_of_a_machine_is_refused() -> None:
    path = b"/".join((b"", b"root", b"model"))
    assert list(forbidden.in_any_file(b"one\nsee " + path)) == ["2: a path of one machine: " + "/root" + "/"]
    assert list(forbidden.in_any_file(b"models" + path)) == []


def test_only_sources_are_searched(tmp_path: Path) -> None:
    for name in ("a.py", "__pycache__/a.pyc", ".mypy_cache/x", ".ci/run", "docs/x.md", "x.egg-info/y", "build/z"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    names = [path.relative_to(tmp_path).as_posix() for path in check.source_files(tmp_path)]
    assert names == [".ci/run", "a.py", "docs/x.md"]


def test_all_checks_run_and_failures_come_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "CHECKS", (("first", lambda: "it is wrong"), ("second", lambda: "")))
    assert check.main() == 1
    assert capsys.readouterr().out == "FAILED  first\nok      second\n\nfirst:\nit is wrong\n"


def test_descriptor_set_is_fresh() -> None:
    assert check.descriptor_set() == ""


def test_stale_descriptor_set_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stale = tmp_path / "tensorhub.binpb"
    monkeypatch.setattr(compile_protos, "TARGET", stale)
    assert "make descriptors" in check.descriptor_set()
    stale.write_bytes(b"")
    assert "make descriptors" in check.descriptor_set()
