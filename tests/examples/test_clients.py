"""The example clients, run as they are against a running server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import PROJECT, RunningServer, serving

CLIENTS = PROJECT / "examples" / "clients"
_DEADLINE_S = 200


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "http_infer.py",
            ["sum        [ 1  2  3", "difference [-1  0  1", "['olleh', 'dlröw']", "'0.576117:1:green'"],
        ),
        ("grpc_infer.py", ["sum        [ 1  2  3", "at a time  8 requests"]),
        ("grpc_stream.py", ["'quick', 'brown'", "['0', '1', '2', '3', '4']"]),
        (
            "http_generate.py",
            [
                "xof nworb kciuq eht",
                "word       quick",
                "refused    generate expects model to produce exactly 1 response",
            ],
        ),
        ("grpc_sequence.py", ["apples     [1, 3, 6, 10]", "pears      [10, 30, 60, 100]"]),
        ("http_batching.py", ["together   True", "instance   batch_report_0_"]),
        ("system_shared_memory.py", ["sum        [ 1  2  3", "difference [-1  0  1"]),
        ("system_shared_memory_plain.py", ["sum        [ 1  2  3", "difference [-1  0  1"]),
    ],
)
def test_python_client(server: RunningServer, name: str, lines: list[str]) -> None:
    url = server.grpc if name.startswith("grpc") else server.http
    segments = set(Path("/dev/shm").glob("example_*"))
    output = run(sys.executable, str(CLIENTS / name), "--url", url)
    for line in lines:
        assert line in output
    assert set(Path("/dev/shm").glob("example_*")) <= segments


def test_curl(server: RunningServer) -> None:
    output = run("bash", str(CLIENTS / "curl.sh"), "--url", server.http)
    assert '"versions":["1"]' in output
    assert "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]" in output


def test_memory_by_descriptor(tmp_path: Path) -> None:
    place = f"/tmp/tensorhub-test-example-{os.getpid()}.sock"
    with serving(tmp_path, [f"--shm-socket={place}"]) as running:
        output = run(sys.executable, str(CLIENTS / "memory_by_descriptor.py"), "--url", running.http, "--socket", place)
    assert "sum        [ 1  2  3" in output


def test_output_by_descriptor(tmp_path: Path) -> None:
    place = f"/tmp/tensorhub-test-example-{os.getpid()}.sock"
    with serving(tmp_path, [f"--shm-socket={place}"]) as running:
        output = run(sys.executable, str(CLIENTS / "output_by_descriptor.py"), "--url", running.http, "--socket", place)
    assert "64 bytes\nsum [ 1  2  3" in output


def test_cuda_shared_memory(server: RunningServer) -> None:
    command = (sys.executable, str(CLIENTS / "cuda_shared_memory.py"), "--url", server.http)
    done = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
    if "skipped" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert "the same" in done.stdout


def test_what_the_readme_says_works(server: RunningServer) -> None:
    text = (PROJECT / "examples" / "README.md").read_text()
    commands = re.findall(r"^    (tensorhub (?:infer|status|check)\b.*)$", text, re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        words = [sys.executable, "-m", *command.split()]
        if "check" not in words:
            words += ["--url", server.http]
        done = subprocess.run(words, capture_output=True, text=True, timeout=_DEADLINE_S, cwd=PROJECT, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"


def test_the_readme_has_all_examples() -> None:
    folder = PROJECT / "examples"
    linked = set(re.findall(r"\]\(([^)]+)\)", (folder / "README.md").read_text()))
    there = {
        str(path.relative_to(folder))
        for kind in ("models", "clients", "functions", "onnx")
        for path in (folder / kind).iterdir()
        if path.name != "__pycache__"
    }
    assert linked == there


def test_all_examples_are_tested() -> None:
    tested = {
        "cuda_shared_memory.py",
        "curl.sh",
        "grpc_infer.py",
        "grpc_sequence.py",
        "grpc_stream.py",
        "http_batching.py",
        "http_generate.py",
        "http_infer.py",
        "memory_by_descriptor.py",
        "output_by_descriptor.py",
        "system_shared_memory.py",
        "system_shared_memory_plain.py",
    }
    assert {path.name for path in CLIENTS.iterdir() if path.is_file()} == tested
