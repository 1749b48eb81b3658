"""The commands as a user runs them: what they print, where to, and how they end."""

import json
import os
import runpy
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tensorhub.cli.main import COMMANDS, main
from tensorhub.cli.quickstart import CONFIG, MODEL
from tensorhub.client.http import Server
from tests.serving import EXAMPLE_MODELS, PROJECT, RunningServer, free_ports
from tests.waiting import DEADLINE_S, wait_until

ONES = json.dumps([1] * 16)


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("tensorhub ")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main([name, "--help"])
    except SystemExit as exc:
        status = int(exc.code or 0)
    assert status == 0
    assert f"tensorhub {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "status", "part"),
    [
        ([], 2, "a command is missing"),
        (["srve"], 2, "there is no command 'srve'"),
        (["serve"], 1, "--model-repository must be specified"),
        (["serve", "--htp-port=1"], 1, "--http-port"),
        (["infer"], 2, "MODEL"),
        (["infer", "m", "--repeat=0"], 2, "--repeat"),
        (["infer", "m", "--random", "--url=ftp://x"], 1, "'ftp://x' is not an address"),
        (["status", "--url=http://127.0.0.1:port"], 1, "'http://127.0.0.1:port' is not an address"),
        (["bench"], 2, "MODEL"),
        (["infer", "m", "--repeat=x"], 2, "--repeat: a whole number of at least 1 is needed, got 'x'"),
        (["infer", "m", "--timeout=-1"], 2, "--timeout: a number of seconds from 0.01 to 86400 is needed, got '-1'"),
        (["infer", "m", "--timeout=nan"], 2, "--timeout: a number of seconds from 0.01 to 86400 is needed, got 'nan'"),
        (["bench", "m", "--concurrency=0"], 2, "--concurrency: numbers from 1 to 1000"),
        (["bench", "m", "--concurrency=1,,2"], 2, "--concurrency: numbers from 1 to 1000"),
        (["bench", "m", "--seconds=x"], 2, "--seconds: a number of seconds"),
        (["bench", "m", "--random", "--plot=x.jpg"], 1, "--plot"),
        (["status", "--run-dir=/nonexistent"], 3, "there is no run directory /nonexistent"),
    ],
)
def test_errors_are_one_line(argv: list[str], status: int, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        found = main(argv)
    except SystemExit as exc:
        found = int(exc.code or 0)
    written = capsys.readouterr()
    assert found == status
    assert written.out == ""
    assert part in written.err
    assert written.err.count("\n") == 1


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["serve", "--help"], ["infer", "--help"]])
@pytest.mark.parametrize("buffered", [True, False])
def test_a_reader_that_goes_is_no_news(argv: list[str], buffered: bool) -> None:
    """As `head` does when it has seen enough."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tensorhub", *argv],
            stdout=writing,
            stderr=subprocess.PIPE,
            cwd=PROJECT,
            env={**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"},
            timeout=DEADLINE_S,
        )
    finally:
        os.close(writing)
    assert (done.returncode in (0, 1), done.stderr) == (True, b"")


def test_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    [port] = free_ports(1)
    assert main(["status", f"--url=127.0.0.1:{port}"]) == 3
    assert main(["infer", "m", "--random", f"--url=127.0.0.1:{port}"]) == 1
    assert capsys.readouterr().err.count("no answer from") == 2


def test_help_does_not_import_numpy() -> None:
    code = "import sys; from tensorhub.cli.main import main; main(['--help']); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_quickstart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "with space"
    assert main(["quickstart", str(place)]) == 0
    assert f"--model-repository '{place}'/models" in capsys.readouterr().out
    assert (place / "models" / "add_sub" / "1" / "model.py").read_text() == MODEL
    assert (place / "client.py").exists()
    assert main(["quickstart", str(place)]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert main(["quickstart", str(place / "client.py")]) == 1
    assert "is not a directory" in capsys.readouterr().err


def test_quickstart_writes_the_example_model() -> None:
    assert (EXAMPLE_MODELS / "add_sub" / "config.pbtxt").read_text() == CONFIG
    assert (EXAMPLE_MODELS / "add_sub" / "1" / "model.py").read_text() == MODEL


def test_quickstart_client(server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["quickstart", str(tmp_path / "demo")])
    capsys.readouterr()
    saved, sys.argv = sys.argv, ["client.py", f"http://{server.http}"]
    try:
        runpy.run_path(str(tmp_path / "demo" / "client.py"), run_name="__main__")
    finally:
        sys.argv = saved
    assert "OUTPUT0 [1, 2, 3, 4" in capsys.readouterr().out


def test_infer(server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "second.npy", np.arange(16, dtype=np.int32))
    inputs = ["--input", f"INPUT0={ONES}", "--input", f"INPUT1=@{tmp_path / 'second.npy'}"]
    assert main(["infer", "add_sub", f"--url={server.http}", *inputs, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {item["name"]: item["data"] for item in answer["outputs"]} == {
        "OUTPUT0": list(range(1, 17)),
        "OUTPUT1": list(range(1, -15, -1)),
    }


def test_infer_random_and_repeated(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["infer", "add_sub", f"--url={server.http}", "--random", "--repeat=3", "--output=OUTPUT1"]
    assert main(argv) == 0
    written = capsys.readouterr()
    assert written.out.startswith("OUTPUT1  INT32 [1, 16]\n")
    assert "OUTPUT0" not in written.out
    assert written.err.startswith("3 requests: median ")


def test_bench(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["bench", "add_sub", f"--url={server.http}", "--random", "--concurrency=1,3", "--seconds=0.2"]
    assert main(argv) == 0
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()] == ["in", "1", "3"]
    assert printed.err == "", "a bar is for terminals"
    assert main([*argv, "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert [entry["concurrency"] for entry in measured["results"]] == [1, 3]
    for entry in measured["results"]:
        assert entry["requests"] > 0
        assert (entry["errors"], entry["lost"]) == ({}, 0)
        assert entry["latency_ms"]["p50"] <= entry["latency_ms"]["p99"]


def test_bench_over_grpc_and_with_shared_memory(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    for protocol, url in (("http", server.http), ("grpc", server.grpc)):
        for memory in ("none", "system"):
            for model, size in (("add_sub", "2"), ("reverse_text", "3")):
                options = ["--random", f"--size={size}", "--concurrency=3", "--seconds=0.1", "--json", f"--url={url}"]
                argv = ["bench", model, *options, f"--protocol={protocol}", f"--shared-memory={memory}"]
                assert main(argv) == 0, argv
                measured = json.loads(capsys.readouterr().out)
                assert (measured["protocol"], measured["shared_memory"]) == (protocol, memory)
                (entry,) = measured["results"]
                assert entry["requests"] > 0
                assert (entry["errors"], entry["lost"]) == ({}, 0)
                assert 0 < entry["client_cpu"] <= 2
    with closing(Server(server.http)) as asked:
        assert asked.regions("system") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_bench_that_is_interrupted_leaves_nothing(server: RunningServer, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "tensorhub", "bench", "add_sub", "--random", "--shared-memory=system"]
    options = [f"--url={server.http}", "--concurrency=1,2", "--seconds=1000"]
    with closing(Server(server.http)) as asked:
        bench = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            wait_until(lambda: len(asked.regions("system")) == 2, "two regions are registered")
            keys = [Path("/dev/shm", region["key"].lstrip("/")) for region in asked.regions("system")]
            assert all(key.exists() for key in keys)
            bench.send_signal(number)
            _, errors = bench.communicate(timeout=60)
        finally:
            bench.kill()
            bench.communicate()
        assert (bench.returncode, errors) == (130, "tensorhub bench: interrupted\n")
        assert asked.regions("system") == []
    assert not any(key.exists() for key in keys)


def test_bench_refusals(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"--url={server.http}"
    assert main(["bench", "nobody", url, "--random"]) == 1
    assert "unknown model" in capsys.readouterr().err
    assert main(["bench", "add_sub", url]) == 1
    assert "no inputs" in capsys.readouterr().err
    over_grpc = [f"--url={server.grpc}", "--protocol=grpc", "--random"]
    assert main(["bench", "nobody", *over_grpc]) == 1
    assert capsys.readouterr().err == "tensorhub bench: Request for unknown model: 'nobody' is not found\n"
    assert main(["bench", "add_sub", "--random", f"--url={server.http}", "--protocol=grpc"]) == 1
    assert "no gRPC server answers" in capsys.readouterr().err


def test_infer_texts(server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts.json").write_text('["one", "two"]')
    assert main(["infer", "reverse_text", f"--url={server.http}", "--input", "TEXT=plain words"]) == 0
    assert "PLAIN WORDS" in capsys.readouterr().out
    assert main(["infer", "reverse_text", f"--url={server.http}", f"--input=TEXT=@{tmp_path / 'texts.json'}"]) == 0
    assert "owt" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["nope", "--random"], "Request for unknown model: 'nope' is not found"),
        (["add_sub"], "no inputs: give --random or --input for INPUT0 INT32 [-1, 16], INPUT1 INT32 [-1, 16]"),
        (["add_sub", "--input", "X=1"], "model 'add_sub' has no input 'X', it has INPUT0, INPUT1"),
        (["add_sub", "--input", "INPUT0"], "--input takes NAME=VALUE"),
        (["add_sub", "--input", "INPUT0={"], "input 'INPUT0' is not JSON"),
        (["add_sub", "--input", "INPUT0=[1]"], "has the shape [-1, 16], the value has [1]"),
        (["add_sub", "--input", "INPUT0=@/nonexistent.json"], "No such file"),
        (["add_sub", "--input", f"INPUT0={ONES}"], "expected 2 inputs but got 1"),
    ],
)
def test_infer_refusals(server: RunningServer, argv: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer", f"--url={server.http}", *argv]) == 1
    written = capsys.readouterr()
    assert written.out == ""
    assert part in written.err
    assert written.err.count("\n") == 1


def test_status(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", f"--url={server.http}"]) == 0
    text = capsys.readouterr().out
    assert ": ready\n" in text
    assert "add_sub" in text
    assert main(["status", f"--url={server.http}", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert {"name": "add_sub", "version": "1", "state": "READY", "reason": ""} in status["models"]


def test_status_of_a_run_directory(server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", f"--run-dir={tmp_path}"]) == 3
    assert "No process" in capsys.readouterr().out
    if server.run_dir is None:
        pytest.skip("the tests did not start this server")
    assert main(["status", f"--run-dir={server.run_dir}", "--json"]) == 0
    processes = json.loads(capsys.readouterr().out)
    assert {item["role"] for item in processes} >= {"hub", "worker"}
    assert all(item["alive"] for item in processes)
