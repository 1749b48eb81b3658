"""Models that call models: in one worker and across two, without a deadlock, and when a worker dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tensorhub.client.http import Refused
from tests.model_calls.repository import add_model, ask
from tests.serving import RunningServer, serving

INT = """
    backend: "python"
    input { name: "IN" data_type: TYPE_INT32 dims: -1 }
    output { name: "OUT" data_type: TYPE_INT32 dims: -1 }
    instance_group { count: 1 kind: KIND_CPU }
"""

ANSWERS_PID = """
    import os
    import numpy as np
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def execute(self, requests):
            pid = np.array([os.getpid()], np.int32)
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", pid)]) for _ in requests]
"""

CALLS = """
    import os
    import numpy as np
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                call = pb_utils.InferenceRequest(
                    model_name="{model}", requested_output_names=["OUT"], inputs=request.inputs()
                )
                answer = {exec}
                if answer.has_error():
                    error = pb_utils.TritonError(answer.error().message(), answer.error().code())
                    responses.append(pb_utils.InferenceResponse(error=error))
                    continue
                called = answer.output_tensors()[0].as_numpy()
                called += 0  # it is the caller's own
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", {result})]))
            return responses
"""

ECHO = """
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def execute(self, requests):
            return [
                pb_utils.InferenceResponse([pb_utils.Tensor("OUT", request.inputs()[0].as_numpy())])
                for request in requests
            ]
"""

PINGS = """
    import numpy as np
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                left = request.inputs()[0].as_numpy()
                if left[0] > 0:
                    call = pb_utils.InferenceRequest(
                        model_name="{other}",
                        requested_output_names=["OUT"],
                        inputs=[pb_utils.Tensor("IN", left - 1)],
                    )
                    answer = getattr(call, "ex" + "ec")()
                    if answer.has_error():
                        raise pb_utils.TritonModelException(answer.error().message())
                    left = answer.output_tensors()[0].as_numpy()
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", left + 1)]))
            return responses
"""

CALLS_LATE = """
    import threading
    import numpy as np
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def execute(self, requests):
            return [self._answer(request) for request in requests]
        def _answer(self, request):
            result = [threading.current_thread().name == "MainThread", 0]
            if request.inputs()[0].as_numpy()[0]:
                call = pb_utils.InferenceRequest(
                    model_name="a2_pid", requested_output_names=["OUT"], inputs=request.inputs()
                )
                result[1] = getattr(call, "ex" + "ec")().output_tensors()[0].as_numpy()[0]
            return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array(result, np.int32))])
"""

HANGS = """
    import time
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def execute(self, requests):
            open(requests[0].inputs()[0].as_numpy()[0].decode(), "w").close()
            time.sleep(60)
"""

IN_THREADS = """
    from concurrent.futures import ThreadPoolExecutor
    import numpy as np
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def initialize(self, args):
            self.pool = ThreadPoolExecutor(4)
        def execute(self, requests):
            return [self._answer(request) for request in requests]
        def _answer(self, request):
            calls = [
                pb_utils.InferenceRequest(
                    model_name="remote", requested_output_names=["OUT"], inputs=request.inputs()
                )
                for _ in range(4)
            ]
            answers = list(self.pool.map(lambda call: call.exec().output_tensors()[0].as_numpy()[0], calls))
            return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array(answers, np.int32))])
        def finalize(self):
            self.pool.shutdown()
"""

PIDS = "np.array([os.getpid(), called[0]], np.int32)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Two workers. Models are dealt out in the order of their names: those with even places are on the first one."""
    repository = tmp_path_factory.mktemp("models")
    add_model(repository, "a0_local", INT, CALLS.format(model="a2_pid", exec="call.exec()", result=PIDS))
    add_model(repository, "a1_pid", INT, ANSWERS_PID)
    add_model(repository, "a2_pid", INT, ANSWERS_PID)
    add_model(repository, "a3_late", INT, CALLS_LATE)
    add_model(repository, "a4_away", INT, CALLS.format(model="a1_pid", exec="call.exec()", result=PIDS))
    add_model(repository, "a5_ping", INT, PINGS.format(other="a6_pong"))
    add_model(repository, "a6_pong", INT, PINGS.format(other="a5_ping").replace("count: 1", "count: 4"))
    add_model(repository, "a7_threads", INT, IN_THREADS.replace('"remote"', '"a2_pid"'))
    add_model(repository, "a8_echo", INT, ECHO)
    add_model(repository, "a9_copies", INT, CALLS.format(model="a8_echo", exec="call.exec()", result="called"))
    add_model(repository, "b0_copies", INT, CALLS.format(model="a8_echo", exec="call.exec()", result="called"))
    with serving(tmp_path_factory.mktemp("log"), ("--workers=2",), repository) as running:
        yield running


def test_a_call_stays_in_the_worker_if_the_model_is_there(server: RunningServer) -> None:
    caller, called = ask(server.http, "a0_local", IN=np.array([0], np.int32))["OUT"]
    assert caller == called


def test_a_call_goes_to_the_worker_that_has_the_model(server: RunningServer) -> None:
    caller, called = ask(server.http, "a4_away", IN=np.array([0], np.int32))["OUT"]
    assert caller != called


@pytest.mark.parametrize("model", ["a9_copies", "b0_copies"])
@pytest.mark.parametrize("size", [0, 3, 16_384, 16_385, 4_000_000])
def test_tensors_of_any_size_arrive(server: RunningServer, model: str, size: int) -> None:
    values = np.arange(size, dtype=np.int32)
    for _ in range(3):
        assert (ask(server.http, model, IN=values)["OUT"] == values).all()


def test_a_model_that_waits_does_not_hold_its_worker_up(server: RunningServer) -> None:
    """A model that hides that it calls others gets onto the loop as any quick one, and leaves it for ever."""
    deadline = time.monotonic() + 60
    while not ask(server.http, "a3_late", IN=np.array([0], np.int32))["OUT"][0]:
        assert time.monotonic() < deadline
    on_loop, pid = ask(server.http, "a3_late", IN=np.array([1], np.int32))["OUT"]
    assert on_loop
    for _ in range(20):
        assert ask(server.http, "a3_late", IN=np.array([1], np.int32))["OUT"].tolist() == [0, pid]


def test_two_models_call_each_other_across_workers(server: RunningServer) -> None:
    with ThreadPoolExecutor(1) as pool:
        answers = [pool.submit(ask, server.http, "a5_ping", IN=np.array([1], np.int32)) for _ in range(40)]
        assert all(answer.result(60)["OUT"] == [2] for answer in answers)


def test_a_model_calls_from_threads_of_its_own(server: RunningServer) -> None:
    for _ in range(40):
        answers = ask(server.http, "a7_threads", IN=np.array([0], np.int32))["OUT"]
        assert len(answers) == 4
        assert len(set(answers)) == 1


def test_many_clients_at_once(server: RunningServer) -> None:
    models = ["a0_local", "a3_late", "a4_away", "a7_threads", "a9_copies", "b0_copies"]
    with ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(ask, server.http, models[i % 6], IN=np.array([i], np.int32)) for i in range(300)]
        for index, answer in enumerate(answers):
            values = answer.result(60)["OUT"]
            assert index % 6 < 4 or values == [index]


def test_the_caller_hears_of_the_death_of_the_other_worker(tmp_path: Path) -> None:
    text = INT.replace("TYPE_INT32", "TYPE_STRING")
    add_model(tmp_path / "models", "a_calls", text, CALLS.format(model="b_hangs", exec="call.exec()", result="called"))
    add_model(tmp_path / "models", "b_hangs", text, HANGS)
    add_model(tmp_path / "models", "d_pid", INT, ANSWERS_PID)
    started = tmp_path / "started"
    with serving(tmp_path, ("--workers=2",), tmp_path / "models") as running:
        first_pid = ask(running.http, "d_pid", IN=np.array([0], np.int32))["OUT"][0]
        errors: list[Refused] = []

        def call() -> None:
            try:
                ask(running.http, "a_calls", IN=np.array([os.fsencode(started)], object))
            except Refused as exc:
                errors.append(exc)

        thread = threading.Thread(target=call)
        thread.start()
        while not started.exists():
            thread.join(0.01)
            assert thread.is_alive()
        os.kill(_other_worker(running, int(first_pid)), signal.SIGKILL)
        thread.join(60)
        assert "the worker process that ran the request has died" in str(errors[0])
        assert ask(running.http, "d_pid", IN=np.array([0], np.int32))["OUT"][0] == first_pid


def _other_worker(running: RunningServer, pid: int) -> int:
    assert running.run_dir is not None
    pids = [int(path.stem.split("-")[1]) for path in running.run_dir.glob("worker-*.sock")]
    return next(found for found in pids if found != pid)
