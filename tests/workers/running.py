"""A model at work without a worker: what runs is a function of the test."""

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from tensorhub.protocol import messages
from tensorhub.protocol.model_spec import ModelSpec
from tensorhub.requests import InferRequest, InferResponse
from tensorhub.workers.alarms import Alarms
from tensorhub.workers.decode import RequestDecoder
from tensorhub.workers.encode import ResponseEncoder
from tensorhub.workers.model import RunningModel
from tensorhub.workers.schedulers.choice import choose_scheduler
from tensorhub.workers.statistics import StatisticsRecorder
from tensorhub.workers.turns import ModelTurns

from .fake_memory import FakeMemory

Execute = Callable[[Sequence[InferRequest]], None]


class Loaded:
    """A LoadedModel and its ModelInstance."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self.finalized = 0

    def execute(self, requests: Sequence[InferRequest]) -> None:
        self._execute(requests)

    def finalize(self) -> None:
        self.finalized += 1

    def unload(self) -> None:
        pass


class Running:
    """A RunningModel with one instance, whose answers come into a queue.

    Args:
        tensors: it has an input and an output, of bytes.

    Attributes:
        drained: set when the model has been told to drain and its last request has been answered.
    """

    def __init__(
        self, execute: Execute, turns: ModelTurns | None = None, *, decoupled: bool = False, tensors: bool = False
    ) -> None:
        config = messages.ModelConfig(name="m")
        if tensors:
            config.input.add(name="i", data_type="TYPE_UINT8", dims=[-1])
            config.output.add(name="o", data_type="TYPE_UINT8", dims=[-1])
        config.model_transaction_policy.decoupled = decoupled
        spec = ModelSpec.from_config(config, "m", 1)
        self.loaded = Loaded(execute)
        self.answers: SimpleQueue[InferResponse | None] = SimpleQueue()
        self.drained = threading.Event()
        self.model = RunningModel(
            messages.ModelVersion(model="m", version=1, load_id=1),
            self.loaded,
            [("m_0", self.loaded)],
            RequestDecoder(spec, FakeMemory()),
            ResponseEncoder(spec, FakeMemory()),
            choose_scheduler(config, 1, {}),
            decoupled=decoupled,
            spec=spec,
            alarms=Alarms(),
            statistics=StatisticsRecorder(),
            turns=turns,
        )
        self.model.start()

    def ask(self, name: str = "") -> InferRequest:
        """Submit a request."""
        request = InferRequest("m", 1, name, {}, responder=self._respond)
        self.model.submit(request)
        return request

    def _respond(self, request: InferRequest, response: InferResponse | None, final: bool) -> None:
        self.answers.put(response)
        if final:
            self.model.closed()
