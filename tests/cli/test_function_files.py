"""`tensorhub serve file.py`, as a person uses it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from tensorhub.cli.serve import split_files
from tensorhub.errors import InvalidArgument
from tensorhub.hub.function_files import function_repository
from tests.serving import PROJECT, serving
from tests.waiting import wait_until

_EXAMPLE = PROJECT / "examples" / "functions" / "text.py"
_DEADLINE_S = 60.0
_ADDS = """import tensorhub

@tensorhub.model(inputs={{"A": ("INT64", [1])}}, outputs={{"B": ("INT64", [1])}})
def add(A):
    return A + {}
"""


def test_files_stand_before_the_options() -> None:
    assert split_files(["a.py", "b.py", "--http-port", "9"]) == (["a.py", "b.py"], ["--http-port", "9"])
    assert split_files(["--log-file", "x.py"]) == ([], ["--log-file", "x.py"])


def test_the_repository_is_gone_afterwards() -> None:
    with function_repository([str(_EXAMPLE)]) as path:
        assert sorted(item.name for item in Path(path).iterdir()) == ["add_sub", "lengths", "words"]
    assert not Path(path).exists()


def test_two_files_with_one_model_are_refused(tmp_path: Path) -> None:
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text(_ADDS.format(1))
    with (
        pytest.raises(InvalidArgument, match=r"two\.py:\d: model 'add' is in another file as well"),
        function_repository([str(tmp_path / "one.py"), str(tmp_path / "two.py")]),
    ):
        pass


@pytest.mark.parametrize(
    ("text", "error"),
    [(None, "no such file"), ("x = 1\n", "nothing in it is decorated"), ("1 / 0\n", ".py:1: ZeroDivi")],
)
def test_a_file_that_cannot_be_served_is_one_line_and_status_1(tmp_path: Path, text: str | None, error: str) -> None:
    path = tmp_path / "models.py"
    if text is not None:
        path.write_text(text)
    done = subprocess.run([sys.executable, "-m", "tensorhub", "serve", str(path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert error in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.usefixtures("heard_hangup")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_server_that_is_stopped_while_it_reads_files_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    path, temporary = tmp_path / "models.py", tmp_path / "tmp"
    temporary.mkdir()
    path.write_text("import pathlib, time\npathlib.Path(__file__ + '.read').touch()\ntime.sleep(600)\n")
    command = [sys.executable, "-m", "tensorhub", "serve", str(path)]
    with subprocess.Popen(command, env={**os.environ, "TMPDIR": str(temporary)}, stderr=subprocess.PIPE) as process:
        wait_until(Path(f"{path}.read").exists, "the file is being read")
        assert list(temporary.iterdir())
        process.send_signal(number)
        assert process.wait(_DEADLINE_S) == 128 + number
    assert list(temporary.iterdir()) == []


def test_the_example_serves_arrays_coroutines_and_streams(tmp_path: Path) -> None:
    with (
        serving(tmp_path, repository=None, files=[_EXAMPLE]) as server,
        tritonclient.http.InferenceServerClient(server.http) as http,
        tritonclient.grpc.InferenceServerClient(server.grpc) as grpc,
    ):
        a = tritonclient.http.InferInput("a", [2, 16], "FP32")
        a.set_data_from_numpy(np.arange(32, dtype=np.float32).reshape(2, 16))
        assert http.infer("add_sub", [a]).as_numpy("SUM")[1, 3] == 19
        text = tritonclient.http.InferInput("text", [2], "BYTES")
        text.set_data_from_numpy(np.array([b"ab", "é".encode()], object))
        assert http.infer("lengths", [text]).as_numpy("LENGTH").tolist() == [2, 1]
        answers: list[bytes] = []
        line = tritonclient.grpc.InferInput("text", [1], "BYTES")
        line.set_data_from_numpy(np.array([b"one two three"], object))
        grpc.start_stream(lambda result, error: answers.append(error or result.as_numpy("WORD")[0]))
        grpc.async_stream_infer("words", [line])
        deadline = time.monotonic() + _DEADLINE_S
        while len(answers) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)  # the client's own thread appends
        grpc.stop_stream()
        assert answers == [b"one", b"two", b"three"]


def test_a_saved_file_is_served_anew_in_poll_mode(tmp_path: Path) -> None:
    path = tmp_path / "models.py"
    path.write_text(_ADDS.format(1))
    options = ["--model-control-mode=poll", "--repository-poll-secs=1"]
    with (
        serving(tmp_path, options, repository=None, files=[path]) as server,
        tritonclient.http.InferenceServerClient(server.http) as client,
    ):
        a = tritonclient.http.InferInput("A", [1], "INT64")
        a.set_data_from_numpy(np.array([100], np.int64))
        assert client.infer("add", [a]).as_numpy("B")[0] == 101
        path.write_text(_ADDS.format(20))
        deadline = time.monotonic() + _DEADLINE_S
        while client.infer("add", [a]).as_numpy("B")[0] != 120:
            assert time.monotonic() < deadline
            time.sleep(0.05)  # a file system tells nobody
