"""Models that lose interest in what they have called: the called model hears of it, and what it says then arrives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as pb_grpc

from tests.model_calls.repository import add_model, ask
from tests.model_calls.test_ensembles import INT
from tests.serving import RunningServer, serving
from tests.waiting import wait_until

DECOUPLED = INT + "model_transaction_policy { decoupled: true }"

UNTIL_CANCELLED = """
    import threading
    import time
    import numpy as np
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                threading.Thread(target=self._count, args=(request.get_response_sender(),)).start()
        def _count(self, sender):
            values, limit = 0, time.monotonic() + 60
            while not sender.is_cancelled() and time.monotonic() < limit:
                values += 1
                self._send(sender, values)
                time.sleep(0.005)
            for last in (-1, -2):
                self._send(sender, last)
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        def _send(self, sender, value):
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([value], np.int32))]))
"""

CANCELS = """
    import numpy as np
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def execute(self, requests):
            return [self._answer(request) for request in requests]
        def _answer(self, request):
            name = ["c1_away", "c2_here"][request.inputs()[0].as_numpy()[0]]
            call = pb_utils.InferenceRequest(
                model_name=name, requested_output_names=["OUT"], inputs=request.inputs()
            )
            responses = call.exec(decoupled=True)
            next(responses)
            responses.cancel()
            rest = list(responses)
            errors = sum(item.has_error() for item in rest)
            said = [int(item.output_tensors()[0].as_numpy()[0]) for item in rest if item.output_tensors()]
            values = np.array([errors, len(rest) - len(said), *said[-2:]], np.int32)
            return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", values)])
"""

RELAYS = """
    import pathlib
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                sender = request.get_response_sender()
                call = pb_utils.InferenceRequest(
                    model_name="c1_away", requested_output_names=["OUT"], inputs=request.inputs()
                )
                responses, said = call.exec(decoupled=True), []
                for response in responses:
                    if sender.is_cancelled():
                        responses.cancel()
                    if response.output_tensors():
                        said.append(int(response.output_tensors()[0].as_numpy()[0]))
                        sender.send(pb_utils.InferenceResponse(response.output_tensors()))
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                pathlib.Path({path!r}).write_text(f"{said[-2:]}")
"""


@pytest.fixture(scope="module")
def farewell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("relay") / "farewell"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, farewell: Path) -> Iterator[RunningServer]:
    """Two workers. Models are dealt out in the order of their names: those with even places are on the first one."""
    repository = tmp_path_factory.mktemp("models")
    add_model(repository, "c0_cancels", INT, CANCELS)
    add_model(repository, "c1_away", DECOUPLED, UNTIL_CANCELLED)
    add_model(repository, "c2_here", DECOUPLED, UNTIL_CANCELLED)
    add_model(repository, "c3_other", INT, CANCELS)
    add_model(repository, "c4_relays", DECOUPLED, RELAYS.replace("{path!r}", repr(str(farewell))))
    with serving(tmp_path_factory.mktemp("log"), ("--workers=2",), repository) as running:
        yield running


@pytest.mark.parametrize("where", [0, 1], ids=["elsewhere", "here"])
def test_what_a_model_says_after_it_was_cancelled_arrives(server: RunningServer, where: int) -> None:
    """No error, one empty response at the end, and the last two with tensors are those that it has sent after it."""
    assert ask(server.http, "c0_cancels", IN=np.array([where], np.int32))["OUT"].tolist() == [0, 1, -1, -2]


def test_a_client_that_goes_ends_a_stream_through_two_workers(server: RunningServer, farewell: Path) -> None:
    request = pb.ModelInferRequest(model_name="c4_relays")
    request.inputs.add(name="IN", datatype="INT32", shape=[1])
    request.raw_input_contents.append(np.zeros(1, np.int32).tobytes())
    with grpc.insecure_channel(server.grpc) as channel:
        responses = pb_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(iter([request]))
        next(responses)
        responses.cancel()
    wait_until(lambda: farewell.exists() and farewell.read_text() == "[-1, -2]", "both models have come to their end")
