"""Schedulers in a whole server of several processes: sequences stay on their worker, instances use all workers."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from tests.serving import RunningServer, serving
from tests.waiting import DEADLINE_S, wait_until

_HEAD = """
backend: "python" max_batch_size: 4
input [ { name: "X" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "Y" data_type: TYPE_INT32 dims: [ 1 ] }, { name: "WHO" data_type: TYPE_STRING dims: [ 1 ] } ]
"""
_MODEL = """
import os, threading
from pathlib import Path
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.who = f"{os.getpid()} {args['model_instance_name']}".encode()
        self.folder = args["model_repository"]
        self.sums = {}
        self.runs = {}

    def execute(self, requests):
        return [self.one(request) for request in requests]

    def answer(self, value, **outputs):
        tensors = [pb_utils.Tensor("Y", np.array([[value]], np.int32)),
                   pb_utils.Tensor("WHO", np.array([[self.who]], np.object_))]
        tensors += [pb_utils.Tensor(name, output) for name, output in outputs.items()]
        return pb_utils.InferenceResponse(tensors)

    def x(self, request, name="X"):
        return pb_utils.get_input_tensor_by_name(request, name).as_numpy()[0, 0]
"""
_CONFIGS = {
    "summing": """
sequence_batching {
  max_sequence_idle_microseconds: 60000000
  oldest { max_candidate_sequences: 64 }
  control_input [
    { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] },
    { name: "ID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_INT64 } ] }
  ]
}
instance_group [ { count: 2 kind: KIND_CPU } ]
""",
    "stateful": """
sequence_batching {
  max_sequence_idle_microseconds: 60000000
  state [ { input_name: "SUM" output_name: "NEXT_SUM" data_type: TYPE_INT32 dims: [ 1 ] } ]
}
""",
    "iterative": "sequence_batching { iterative_sequence: true oldest { max_candidate_sequences: 8 } }",
    "spread": 'instance_group [ { count: 2 kind: KIND_CPU }, { name: "more" kind: KIND_CPU host_policy: "p" } ]',
    "slow": "",
    "delayed": "dynamic_batching { max_queue_delay_microseconds: 2000 }",
    "places": """
sequence_batching { max_sequence_idle_microseconds: 60000000 direct { } }
instance_group [ { count: 2 kind: KIND_CPU } ]
""",
    "ordered": """
dynamic_batching { preserve_ordering: true }
instance_group [ { count: 2 kind: KIND_CPU } ]
""",
    "bounded": """
dynamic_batching { default_queue_policy { max_queue_size: 4 } preferred_batch_size: [ 1 ] }
instance_group [ { count: 2 kind: KIND_CPU } ]
""",
}
_METHODS = {
    "summing": """
        key = int(self.x(request, "ID"))
        self.sums[key] = int(self.x(request)) + (0 if self.x(request, "START") else self.sums[key])
        return self.answer(self.sums[key])
""",
    "stateful": """
        total = self.x(request, "SUM") + self.x(request)
        return self.answer(total, NEXT_SUM=np.array([[total]], np.int32))
""",
    "iterative": """
        seen = self.runs[request.correlation_id()] = self.runs.get(request.correlation_id(), 0) + 1
        if seen < self.x(request):
            request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
            return None
        return self.answer(seen)
""",
    "spread": """
        threading.Event().wait(0.03)
        return self.answer(0)
""",
    "slow": """
        Path(self.folder, "at work").touch()
        while not Path(self.folder, "go on").exists():
            threading.Event().wait(0.005)
        self.runs["all"] = self.runs.get("all", 0) + 1
        return self.answer(self.runs["all"])
""",
    "delayed": """
        threading.Event().wait(int(self.x(request)) / 1000)
        return self.answer(int(threading.current_thread() is threading.main_thread()))
""",
    "places": """
        return self.answer(int(self.x(request)))
""",
    "ordered": """
        threading.Event().wait(int(self.x(request)) / 1000)
        return self.answer(int(self.x(request)))
""",
    "bounded": """
        Path(self.folder, f"at work {self.who.decode()}").touch()
        while not Path(self.folder, "go").exists():
            threading.Event().wait(0.01)
        return self.answer(0)
""",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("models")
    for name, config in _CONFIGS.items():
        folder = repository / name / "1"
        folder.mkdir(parents=True)
        (folder.parent / "config.pbtxt").write_text(_HEAD + config)
        (folder / "model.py").write_text(f"{_MODEL}\n    def one(self, request):\n{_METHODS[name]}")
    return repository


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with serving(tmp_path_factory.mktemp("work"), ["--workers=2", "--allow-metrics=false"], repository) as running:
        yield running


class _Client:
    """Alternates between the protocols."""

    def __init__(self, server: RunningServer) -> None:
        self._clients = (grpcclient.InferenceServerClient(server.grpc), httpclient.InferenceServerClient(server.http))
        self._modules = (grpcclient, httpclient)
        self._calls = 0

    def infer(self, model: str, value: int, **arguments: Any) -> tuple[int, str]:
        """Returns Y and WHO."""
        self._calls += 1
        return self._infer(self._calls % 2, model, value, **arguments)

    def together(self, model: str, values: Sequence[int]) -> list[tuple[int, str]]:
        """All at once, over gRPC, whose client may be used by several threads."""
        with ThreadPoolExecutor(len(values)) as pool:
            return list(pool.map(lambda value: self._infer(0, model, value), values))

    def _infer(self, turn: int, model: str, value: int, **arguments: Any) -> tuple[int, str]:
        given = self._modules[turn].InferInput("X", [1, 1], "INT32")
        given.set_data_from_numpy(np.array([[value]], np.int32))
        result = self._clients[turn].infer(model, [given], **arguments)
        return int(result.as_numpy("Y")[0, 0]), result.as_numpy("WHO")[0, 0].decode()

    def step(self, sequence: int | str, value: int, flags: str = "", model: str = "summing") -> tuple[int, str]:
        return self.infer(model, value, sequence_id=sequence, sequence_start="s" in flags, sequence_end="e" in flags)


@pytest.fixture
def client(server: RunningServer) -> _Client:
    return _Client(server)


def test_every_sequence_stays_on_one_worker_from_any_frontend(client: _Client) -> None:
    sequences = range(1, 33)
    homes = {sequence: client.step(sequence, sequence, "s")[1] for sequence in sequences}
    assert len({home.split()[0] for home in homes.values()}) == 2, "one worker has all sequences"
    for number in (2, 3):
        for sequence in sequences:
            assert client.step(sequence, sequence, "e" if number == 3 else "") == (number * sequence, homes[sequence])
    with pytest.raises(InferenceServerException, match="must specify the START flag"):
        client.step(1, 1)


def test_instances_are_spread_over_the_workers(client: _Client) -> None:
    seen = set()

    def look() -> bool:
        seen.update(who for _, who in client.together("spread", [0] * 8))
        return len(seen) == 3

    wait_until(look, "all three instances have run")
    assert {name.split()[1] for name in seen} == {"spread_0_0", "spread_0_1", "more_0"}
    assert len({name.split()[0] for name in seen}) == 2


def test_state_is_kept_by_the_server(client: _Client) -> None:
    assert [client.step("one", value, flags, "stateful")[0] for value, flags in ((3, "s"), (4, ""), (5, "e"))] == [
        3,
        7,
        12,
    ]
    assert client.step("one", 1, "se", "stateful")[0] == 1


def test_a_batch_that_waits_begins_on_the_loop_if_the_model_is_quick(client: _Client) -> None:
    assert client.infer("delayed", 30)[0] == 0, "a model that may be slow has a thread"
    wait_until(lambda: client.infer("delayed", 0)[0] == 1, "it is trusted to be quick")
    client.infer("delayed", 30)
    assert client.infer("delayed", 0)[0] == 0, "it was slow"


def test_an_iterative_request_runs_until_it_is_answered(client: _Client) -> None:
    assert [value for value, _ in client.together("iterative", [1, 5, 9, 2])] == [1, 5, 9, 2]


def test_a_request_whose_client_has_given_up_does_not_run(
    server: RunningServer, client: _Client, repository: Path
) -> None:
    given = grpcclient.InferInput("X", [1, 1], "INT32")
    given.set_data_from_numpy(np.array([[0]], np.int32))
    answers: SimpleQueue[Any] = SimpleQueue()
    with grpcclient.InferenceServerClient(server.grpc) as grpc:
        grpc.async_infer("slow", [given], lambda result, error: answers.put(result or error))
        wait_until((repository / "slow" / "at work").exists, "the first request is at work")

        def dropped() -> bool:
            """Whether the worker has dropped one; on a machine that stands still, its time may be up on the way."""
            with pytest.raises(InferenceServerException, match="Deadline Exceeded"):
                grpc.infer("slow", [given], client_timeout=1)
            [model] = grpc.get_inference_statistics("slow").model_stats
            return bool(model.inference_stats.fail.count)

        wait_until(dropped, "the server knows")
        (repository / "slow" / "go on").touch()
        assert answers.get().as_numpy("Y")[0, 0] == 1
    assert client.infer("slow", 0)[0] == 2


def test_slots_of_all_workers_are_used_before_a_sequence_waits(client: _Client) -> None:
    for base in (0, 100, 200):  # ids whose homes are shared out otherwise
        sequences = range(base + 1, base + 9)  # as many as there are slots
        homes = {sequence: client.step(sequence, 1, "s", "places")[1] for sequence in sequences}
        assert sorted(Counter(homes.values()).values()) == [4, 4]
        with pytest.raises(InferenceServerException, match="must specify the START flag"):
            client.step(base + 9, 1, "", "places")
        for flags in ("", "e"):
            assert {sequence: client.step(sequence, 1, flags, "places")[1] for sequence in sequences} == homes


def test_a_sequence_without_a_slot_anywhere_waits_for_one(server: RunningServer, client: _Client) -> None:
    sequences = range(301, 309)
    homes = {sequence: client.step(sequence, 1, "s", "places")[1] for sequence in sequences}
    given = grpcclient.InferInput("X", [1, 1], "INT32")
    given.set_data_from_numpy(np.array([[7]], np.int32))
    answers: SimpleQueue[Any] = SimpleQueue()
    with grpcclient.InferenceServerClient(server.grpc) as grpc:
        grpc.async_infer(
            "places",
            [given],
            lambda result, error: answers.put(error or result),
            sequence_id=400,
            sequence_start=True,
            sequence_end=True,
        )
        for sequence in sequences:
            assert client.step(sequence, 1, "e", "places")[1] == homes[sequence]
        assert answers.get(timeout=DEADLINE_S).as_numpy("Y")[0, 0] == 7


def test_responses_keep_their_order_whatever_the_number_of_workers(server: RunningServer) -> None:
    order: list[int] = []
    with grpcclient.InferenceServerClient(server.grpc) as grpc:
        ended = threading.Event()

        def note(result: Any, error: Any) -> None:
            order.append(int((error or result).as_numpy("Y")[0, 0]))
            if len(order) == 9:
                ended.set()

        grpc.start_stream(note)
        for value in (60, 0, 1, 40, 2, 3, 20, 4, 5):
            given = grpcclient.InferInput("X", [1, 1], "INT32")
            given.set_data_from_numpy(np.array([[value]], np.int32))
            grpc.async_stream_infer("ordered", [given])
        assert ended.wait(DEADLINE_S), order
    assert order == [60, 0, 1, 40, 2, 3, 20, 4, 5]


def test_workers_share_the_limit_of_a_queue(server: RunningServer, repository: Path) -> None:
    answers: SimpleQueue[Any] = SimpleQueue()
    given = grpcclient.InferInput("X", [1, 1], "INT32")
    given.set_data_from_numpy(np.array([[0]], np.int32))
    folder = repository / "bounded"
    with grpcclient.InferenceServerClient(server.grpc) as grpc:

        def ask() -> None:
            grpc.async_infer("bounded", [given], lambda result, error: answers.put(error))

        for number in range(2):
            ask()
            wait_until(lambda number=number: len(list(folder.glob("at work*"))) > number, "it is at work")
        for _ in range(7):
            ask()
        refused = [answers.get(timeout=DEADLINE_S) for _ in range(3)]
        assert all("Exceeds maximum queue size" in error.message() for error in refused)
        (folder / "go").touch()
        assert [answers.get(timeout=DEADLINE_S) for _ in range(6)] == [None] * 6


def test_the_death_of_a_worker_moves_no_sequence_of_another(client: _Client) -> None:
    sequences = range(101, 117)
    homes = {sequence: client.step(sequence, 1, "s")[1].split()[0] for sequence in sequences}
    victim, survivor = sorted(set(homes.values()))
    os.kill(int(victim), signal.SIGKILL)
    for sequence in sequences:
        if homes[sequence] == survivor:
            assert client.step(sequence, 1)[0] == 2

    def restarted() -> bool:
        lost = next(sequence for sequence in sequences if homes[sequence] == victim)
        try:
            return client.step(lost, 5, "s")[0] == 5
        except InferenceServerException:
            return False

    wait_until(restarted, "the worker is back")
    for sequence in sequences:
        if homes[sequence] == survivor:
            value, who = client.step(sequence, 1, "e")
            assert (value, who.split()[0]) == (3, survivor)
