"""Ensembles with real processes: large tensors, who may write, streams, cancellation, and steps on other workers."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client

from tensorhub.client.http import Refused
from tests.model_calls.repository import add_model, ask
from tests.serving import RunningServer, serving
from tests.waiting import wait_until

INT = """
    backend: "python"
    input { name: "IN" data_type: TYPE_INT32 dims: -1 }
    output { name: "OUT" data_type: TYPE_INT32 dims: -1 }
    instance_group { count: 1 kind: KIND_CPU }
"""

ADDS_IN_PLACE = """
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                values = request.inputs()[0].as_numpy()
                values += 1
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", values.copy())]))
            return responses
"""

ADDS = """
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def execute(self, requests):
            values = requests[0].inputs()[0].as_numpy()
            if values[0] > 10:
                raise ValueError("too large")
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", values + 1)])]
"""

ECHO = """
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def execute(self, requests):
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", r.inputs()[0].as_numpy())]) for r in requests]
"""

CALLS_TWICE = """
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def execute(self, requests):
            values = requests[0].inputs()[0].as_numpy()
            call = pb_utils.InferenceRequest(
                model_name="m0_adds", inputs=[pb_utils.Tensor("IN", values)], requested_output_names=["OUT"]
            )
            first, second = [call.exec().output_tensors()[0].as_numpy() for _ in range(2)]
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", values * 100 + first * 10 + second)])]
"""

KEEPS = """
    import numpy as np
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def initialize(self, args):
            self.kept = np.full(8, 7, np.int32)
        def execute(self, requests):
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", self.kept)]) for _ in requests]
"""

SLOW = """
    import time
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                values = request.inputs()[0].as_numpy()
                time.sleep(values[0] / 1000)
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", values + 1)]))
            return responses
"""

REPEATS = """
    import numpy as np
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                sender = request.get_response_sender()
                for index in range(request.inputs()[0].as_numpy()[0]):
                    if sender.is_cancelled():
                        break
                    values = np.array([index], np.int32)
                    sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", values)]))
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

WAITS = """
    import time
    import triton_python_backend_utils as pb_utils
    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                sender = request.get_response_sender()
                path = request.inputs()[0].as_numpy()[0].decode()
                open(path + ".started", "w").close()
                while not sender.is_cancelled():
                    time.sleep(0.001)
                open(path + ".cancelled", "w").close()
                error = pb_utils.TritonError("cancelled", pb_utils.TritonError.CANCELLED)
                sender.send(
                    pb_utils.InferenceResponse(error=error), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
                )
"""


def ensemble(*models: str, kind: str = "INT32", dims: str = "-1") -> str:
    """A chain of models with IN and OUT."""
    tensors = ["IN", *(f"T{index}" for index in range(1, len(models))), "OUT"]
    steps = "".join(
        f'step {{ model_name: "{model}" model_version: -1 input_map {{ key: "IN" value: "{tensors[index]}" }} '
        f'output_map {{ key: "OUT" value: "{tensors[index + 1]}" }} }} '
        for index, model in enumerate(models)
    )
    return (
        f'platform: "ensemble" input {{ name: "IN" data_type: TYPE_{kind} dims: {dims} }} '
        f'output {{ name: "OUT" data_type: TYPE_{kind} dims: {dims} }} ensemble_scheduling {{ {steps} }}'
    )


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """With two workers, the models are dealt out to them in turn, so that steps of each ensemble are on both."""
    repository = tmp_path_factory.mktemp("models")
    add_model(repository, "m0_adds", INT, ADDS_IN_PLACE)
    add_model(repository, "m1_slow", INT, SLOW)
    add_model(repository, "m2_keeps", INT, KEEPS)
    add_model(repository, "m3_repeats", INT + "model_transaction_policy { decoupled: true }", REPEATS)
    add_model(repository, "m4_adds", INT, ADDS_IN_PLACE)
    add_model(repository, "m5_waits", INT.replace("INT32", "STRING"), WAITS)
    add_model(repository, "e_chain", ensemble("m0_adds", "m1_slow", "m4_adds"))
    add_model(repository, "e_long", ensemble(*["m0_adds"] * 200))
    add_model(repository, "e_kept", ensemble("m2_keeps", "m0_adds"))
    add_model(
        repository,
        "e_shared",
        """
        platform: "ensemble"
        input { name: "IN" data_type: TYPE_INT32 dims: -1 }
        output { name: "A" data_type: TYPE_INT32 dims: -1 }
        output { name: "B" data_type: TYPE_INT32 dims: -1 }
        ensemble_scheduling {
          step { model_name: "m0_adds" model_version: -1
            input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "A" } }
          step { model_name: "m0_adds" model_version: -1
            input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "B" } }
        }
        """,
    )
    add_model(repository, "m6_calls", INT, CALLS_TWICE)
    add_model(repository, "m7_adds", INT, ADDS)
    add_model(repository, "m8_adds", INT, ADDS)
    add_model(repository, "m9_echo", INT, ECHO)
    add_model(repository, "e_quick", ensemble("m7_adds", "m8_adds"))
    add_model(
        repository,
        "e_passed_on",
        """
        platform: "ensemble"
        input { name: "IN" data_type: TYPE_INT32 dims: -1 }
        output { name: "A" data_type: TYPE_INT32 dims: -1 }
        output { name: "B" data_type: TYPE_INT32 dims: -1 }
        output { name: "C" data_type: TYPE_INT32 dims: -1 }
        ensemble_scheduling {
          step { model_name: "m9_echo" model_version: -1
            input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "A" } }
          step { model_name: "m0_adds" model_version: -1
            input_map { key: "IN" value: "A" } output_map { key: "OUT" value: "C" } }
          step { model_name: "m0_adds" model_version: -1
            input_map { key: "IN" value: "C" } output_map { key: "OUT" value: "B" } }
        }
        """,
    )
    add_model(repository, "e_stream", ensemble("m3_repeats", "m0_adds"))
    add_model(repository, "e_waits", ensemble("m5_waits", kind="STRING"))
    with serving(tmp_path_factory.mktemp("log"), (f"--workers={request.param}",), repository) as running:
        yield running


@pytest.mark.parametrize("size", [1, 16_385, 4_000_000])
def test_tensors_of_any_size_pass_through(server: RunningServer, size: int) -> None:
    values = np.arange(size, dtype=np.int32) % 5
    for _ in range(3):
        assert (ask(server.http, "e_chain", IN=values)["OUT"] == values + 3).all()


def test_a_long_chain(server: RunningServer) -> None:
    assert ask(server.http, "e_long", IN=np.array([1], np.int32))["OUT"] == [201]


def test_a_step_may_write_to_its_inputs_and_to_nothing_else(server: RunningServer) -> None:
    """What a model keeps is copied for the step that follows."""
    for _ in range(3):
        assert ask(server.http, "e_kept", IN=np.array([1], np.int32))["OUT"].tolist() == [8] * 8
        assert ask(server.http, "m2_keeps", IN=np.array([1], np.int32))["OUT"].tolist() == [7] * 8


@pytest.mark.parametrize("size", [1, 100_000])
def test_steps_that_share_a_tensor_may_write_to_it(server: RunningServer, size: int) -> None:
    """Each has a copy of its own, and the model that calls others keeps what it has given them."""
    for _ in range(12):
        answer = ask(server.http, "e_shared", IN=np.full(size, 1, np.int32))
        assert (answer["A"] == 2).all()
        assert (answer["B"] == 2).all()
        assert (ask(server.http, "m6_calls", IN=np.full(size, 5, np.int32))["OUT"] == 566).all()


def test_what_is_passed_on_stays_as_it_was(server: RunningServer) -> None:
    """A step that answers with its input, changed or not, and another one that changes the same tensor."""
    for _ in range(12):
        answer = ask(server.http, "e_passed_on", IN=np.array([5], np.int32))
        assert {name: array.tolist() for name, array in answer.items()} == {"A": [5], "B": [7], "C": [6]}


def test_quick_steps_are_counted_as_all_requests_are(server: RunningServer) -> None:
    with http_client.InferenceServerClient(server.http) as client:

        def counts() -> dict[str, tuple[int, int, int, int, int]]:
            found = {}
            for model in ("m7_adds", "m8_adds", "e_quick"):
                item = client.get_inference_statistics(model)["model_stats"][0]
                stats = item["inference_stats"]
                sums = [stats[name]["count"] for name in ("success", "fail", "compute_infer")]
                found[model] = (item["inference_count"], item["execution_count"], *sums)
            return found

        for _ in range(60):
            assert ask(server.http, "e_quick", IN=np.array([1], np.int32))["OUT"] == [3]
        wait_until(lambda: set(counts().values()) == {(60, 60, 60, 0, 60)}, "all are counted", account=counts)
        for _ in range(3):
            with pytest.raises(Refused, match=r"^in ensemble 'e_quick', Failed to process the request.*too large"):
                ask(server.http, "e_quick", IN=np.array([10], np.int32))
        failed = (60, 63, 60, 3, 60)
        expected = {"m7_adds": (63, 63, 63, 0, 63), "m8_adds": failed, "e_quick": failed}
        wait_until(lambda: counts() == expected, "the refused are counted, too", account=counts)


def test_many_clients_at_once(server: RunningServer) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(ask, server.http, "e_chain", IN=np.full(9, i % 3, np.int32)) for i in range(200)]
        for index, answer in enumerate(answers):
            assert answer.result(60)["OUT"].tolist() == [index % 3 + 3] * 9


@pytest.mark.parametrize("count", [0, 1, 5, 1_000])
def test_a_decoupled_step_makes_a_response_of_each(server: RunningServer, count: int) -> None:
    got: queue.Queue[Any] = queue.Queue()
    with grpc_client.InferenceServerClient(server.grpc) as client:
        client.start_stream(partial(lambda results, result, error: results.put((result, error)), got))
        item = grpc_client.InferInput("IN", [1], "INT32")
        item.set_data_from_numpy(np.array([count], np.int32))
        client.async_stream_infer("e_stream", [item], enable_empty_final_response=True)
        values = []
        while True:
            result, error = got.get(timeout=60)
            assert error is None
            if result.as_numpy("OUT") is not None:
                values.append(int(result.as_numpy("OUT")[0]))
            if result.get_response().parameters["triton_final_response"].bool_param:
                break
        client.stop_stream()
    assert values == list(range(1, count + 1))


def test_cancelling_reaches_the_step_that_runs(server: RunningServer, tmp_path: Path) -> None:
    failed = threading.Event()
    with grpc_client.InferenceServerClient(server.grpc) as client:
        item = grpc_client.InferInput("IN", [1], "BYTES")
        item.set_data_from_numpy(np.array([str(tmp_path / "e").encode()], object))
        call = client.async_infer("e_waits", [item], lambda result, error: failed.set())
        await_file(tmp_path / "e.started")
        call.cancel()
        assert failed.wait(60)
        await_file(tmp_path / "e.cancelled")


def await_file(path: Path) -> None:
    wait_until(path.exists, f"{path.name} comes")
