"""Streams of responses from another worker: whoever makes them waits for whoever takes them, and nobody for ever."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as pb_grpc

from tensorhub.client.http import Refused
from tensorhub.ipc.wire import STREAM_WINDOW
from tests.model_calls.repository import add_model, ask
from tests.model_calls.test_ensembles import ADDS, INT, ensemble
from tests.serving import RunningServer, serving
from tests.waiting import wait_until

COUNTS = """
    import numpy as np
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                sender = request.get_response_sender()
                count, size = request.inputs()[0].as_numpy().tolist()
                for index in range(count):
                    if sender.is_cancelled():
                        break
                    values = np.full(size, index, np.int32)
                    sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", values)]))
                    with open({path!r}, "w") as file:
                        file.write(str(index + 1))
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

TAKES = """
    import os
    import time
    import numpy as np
    import triton_python_backend_utils as pb_utils

    def stream(count):
        tensors = [pb_utils.Tensor("IN", np.array([count, 1], np.int32))]
        call = pb_utils.InferenceRequest(model_name="m1_counts", inputs=tensors, requested_output_names=["OUT"])
        return call.exec(decoupled=True)

    def standing():
        "Wait until the other model does not go on; return how far it has got."
        seen, since = -1, time.monotonic()
        while seen < {window} or time.monotonic() - since < 0.5:
            try:
                now = int(open({path!r}).read() or 0)
            except FileNotFoundError:
                now = 0
            if now != seen:
                seen, since = now, time.monotonic()
            time.sleep(0.01)
        return seen

    class TritonPythonModel:
        def execute(self, requests):
            what, count = requests[0].inputs()[0].as_numpy().tolist()
            answer = [0, 0]
            if what == 0:  # take one, see how far it gets, take the rest
                responses = stream(count)
                first = next(responses)
                answer = [standing(), 1 + sum(len(item.output_tensors()) for item in responses)]
            elif what == 1:  # take one and let go of the others
                next(stream(count))
            elif what == 2:  # leave a stream alone for another one of the same model
                first, second = stream(count), stream(count)
                answer = [sum(len(item.output_tensors()) for item in responses) for responses in (second, first)]
            elif what == 3:  # take one and die
                responses = stream(count)
                next(responses)
                standing()
                os.kill(os.getpid(), 9)
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array(answer, np.int32))])]
"""


def progress(path: Path) -> int:
    return int(path.read_text() or 0) if path.exists() else 0


@pytest.fixture(scope="module")
def progress_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("progress") / "count"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, progress_file: Path) -> Iterator[RunningServer]:
    """The models are dealt out to the workers in turn."""
    tmp_path = tmp_path_factory.mktemp("server")
    repository = tmp_path / "models"
    takes = TAKES.replace("{path!r}", repr(str(progress_file))).replace("{window}", str(STREAM_WINDOW))
    decoupled = "model_transaction_policy { decoupled: true }"
    add_model(repository, "m0_takes", INT, takes)
    add_model(repository, "m1_counts", INT + decoupled, COUNTS.replace("{path!r}", repr(str(progress_file))))
    add_model(repository, "m2_adds", INT, ADDS.replace("values[0] > 10", "False"))
    add_model(repository, "m3_adds", INT, ADDS.replace("values[0] > 10", "False"))
    add_model(repository, "m4_adds", INT, ADDS.replace("values[0] > 10", "False"))
    # On the worker that has most of its steps: not the one of the model that counts.
    add_model(repository, "stream", ensemble("m1_counts", "m2_adds", "m4_adds"))
    with serving(tmp_path, ("--workers=2",), repository) as running:
        yield running


def told(server: RunningServer, what: int, count: int) -> list[int]:
    answer: list[int] = ask(server.http, "m0_takes", IN=np.array([what, count], np.int32))["OUT"].tolist()
    return answer


def test_a_model_waits_for_its_caller(server: RunningServer, progress_file: Path) -> None:
    got, taken = told(server, 0, 2_000)
    assert taken == 2_000
    assert STREAM_WINDOW <= got <= STREAM_WINDOW + 1
    assert progress(progress_file) == 2_000


def test_a_model_does_not_wait_for_a_caller_that_lets_go(server: RunningServer, progress_file: Path) -> None:
    told(server, 1, 2_001)
    wait_until(lambda: progress(progress_file) == 2_001, "the model has come to its end")


def test_a_caller_that_waits_for_another_stream_holds_nobody_up(server: RunningServer) -> None:
    assert told(server, 2, 1_000) == [1_000, 1_000]


def test_responses_of_a_step_elsewhere_arrive_in_order(server: RunningServer) -> None:
    count = 1_500
    with _stream(server, count, 1) as responses:
        values = [
            int(np.frombuffer(item.infer_response.raw_output_contents[0], np.int32)[0])
            for item in responses
            if item.infer_response.raw_output_contents
        ]
    assert values == list(range(2, count + 2))


def test_a_step_elsewhere_waits_for_the_client_of_its_ensemble(server: RunningServer, progress_file: Path) -> None:
    """A client that does not read: what is on its way is bounded, by the windows of both workers and of the client."""
    with _stream(server, 1_000_000, 4_096) as responses:
        next(responses)
        seen, since = -1, time.monotonic()

        def stands() -> bool:
            nonlocal seen, since
            now = progress(progress_file)
            if now != seen:
                seen, since = now, time.monotonic()
            return seen > STREAM_WINDOW and time.monotonic() - since > 1.0

        wait_until(stands, "the model waits")
        responses.cancel()
    assert seen < 20_000


@contextmanager
def _stream(server: RunningServer, count: int, size: int) -> Iterator[Any]:
    """The responses of the ensemble, read when they are asked for; the stream of requests is half-closed at once."""
    request = pb.ModelInferRequest(model_name="stream")
    request.inputs.add(name="IN", datatype="INT32", shape=[2])
    request.raw_input_contents.append(np.array([count, size], np.int32).tobytes())
    with grpc.insecure_channel(server.grpc) as channel:
        responses = pb_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(iter([request]))
        yield responses
        responses.cancel()


def test_a_model_does_not_wait_for_a_caller_that_has_died(server: RunningServer) -> None:
    """It has one instance, which is free again when its worker knows that the other one is no more."""
    with pytest.raises(Refused, match="has died"):
        told(server, 3, 1000 * STREAM_WINDOW)

    def answers() -> bool:
        try:
            return told(server, 2, 5) == [5, 5]
        except Refused:
            return False

    wait_until(answers, "the next worker calls it")
