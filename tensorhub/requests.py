"""An inference request and its responses, as schedulers and backends see them.

The wire is behind and the client is out of sight: a request has been decoded and validated, its tensors are views on
memory that stays valid until the request is closed, and it is answered by calling `respond`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tensorhub.devices import DeviceMemory
from tensorhub.errors import TensorhubError
from tensorhub.memory import Held
from tensorhub.tensors import DataType

Parameter = bool | int | float | str

FLAG_SEQUENCE_START = 1
FLAG_SEQUENCE_END = 2
"""Bits of `InferRequest.flags`, with the numbers of TRITONSERVER_RequestFlag."""


NO_SEQUENCE: Mapping[str, Parameter] = {"sequence_id": 0, "sequence_start": False, "sequence_end": False}
"""Parameters of an ensemble's response to a request of no sequence: one object, by which such a response is known."""


class Buffer(Protocol):
    """Anything with the buffer protocol: bytes, bytearray, memoryview, a NumPy array."""

    def __buffer__(self, flags: int, /) -> memoryview: ...


@dataclass(slots=True, eq=False)
class Tensor:
    """A tensor in its wire encoding.

    Attributes:
        shape: with the batch dimension, if the model batches.
        data: C-contiguous bytes in the encoding of the binary extension (BYTES: 4-byte little-endian lengths in front
            of the elements). An input's buffer is writable exactly if the memory is private to the request. An output's
            buffer may be an array; its bytes are read until the response has been delivered.
    """

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    data: Buffer

    def renamed(self, name: str, shape: tuple[int, ...] | None = None) -> "Tensor":
        """Return the same data under another name, and with another shape if one is given."""
        return Tensor(name, self.datatype, self.shape if shape is None else shape, self.data)

    def kept(self) -> "Tensor":
        """Return a copy in the host's memory, which stays as it is whatever becomes of this one."""
        return Tensor(self.name, self.datatype, self.shape, flat_view(self.data).tobytes())


def flat_view(data: Buffer) -> memoryview:
    """View the bytes of a tensor (format "B", one dimension); a copy if they are in the memory of a GPU."""
    if type(data) is DeviceMemory:
        return memoryview(data.to_host())
    view = memoryview(data)
    if view.format == "B" and view.ndim == 1:
        return view
    return view.cast("B") if view.nbytes else memoryview(b"")


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that the client listed, and where it wants it.

    Attributes:
        region: name of a registered region to write to, or "" for the response itself.
        offset, byte_size: the range of that region.
        classification: top-k classes to return in place of the tensor; 0: off.
    """

    name: str
    region: str = ""
    offset: int = 0
    byte_size: int = 0
    classification: int = 0


@dataclass(slots=True, eq=False)
class InferResponse:
    """One response of a model: outputs, or an error, which wins.

    Attributes:
        taken: set if who sends the responses of a call waits when too many are on their way: to be called when this one
            is dealt with.
    """

    outputs: list[Tensor] = field(default_factory=list)
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    error: TensorhubError | None = None
    taken: Callable[[], None] | None = None


class Tally:
    """How long the runs that served a request of a model took, for the statistics of who made the request; in ns."""

    __slots__ = ("infer_ns", "input_ns", "output_ns")

    def __init__(self) -> None:
        self.input_ns = self.infer_ns = self.output_ns = 0

    def add(self, input_ns: int, infer_ns: int, output_ns: int) -> None:
        self.input_ns += input_ns
        self.infer_ns += infer_ns
        self.output_ns += output_ns


Responder = Callable[["InferRequest", InferResponse | None, bool], None]
"""(request, response or None for "no more", final). Thread-safe; bound by the worker's loop."""


class Trace(Protocol):
    """Notes when a request was where. Thread-safe. Times are CLOCK_MONOTONIC in ns."""

    @property
    def carrier(self) -> str:
        """JSON of the headers by which whoever is called goes on with the trace; "" if there are none."""

    def called(self, request: "InferRequest") -> "Trace | None":
        """Return the trace of a request that this one makes of a model of this process; None: it is over already."""

    def called_elsewhere(self) -> object | None:
        """Return what a request that this one makes of another process carries: a `tensorhub.wire.TraceOrigin`."""

    def refused(self) -> None:
        """A request that was to be made has not been made."""

    def queued(self, request: "InferRequest", now_ns: int) -> None:
        """It goes into the queue of its model."""

    def started(self) -> None:
        """Its run begins."""

    def ran(self, started_ns: int, times: tuple[int, int] | None, ended_ns: int) -> None:
        """Its run is over; `times`: when its inputs were there, and when the model had finished."""

    def responded(self, response: InferResponse | None, final: bool, now_ns: int) -> None:
        """An answer is sent."""


@dataclass(slots=True, eq=False)
class InferRequest:
    """One validated request.

    Attributes:
        model, version: what will run it.
        request_id: the client's id, or "".
        inputs: by name, in the order of the request.
        requested: the outputs that the client listed; empty: all.
        correlation_id: 0 or "" if it belongs to no sequence.
        timeout_us: the client's timeout in microseconds, 0 for none. `deadline_ns`: CLOCK_MONOTONIC, 0 for none.
        arrival_ns: CLOCK_MONOTONIC, when the worker took it.
        batch_size: rows; 1 for a model that does not batch.
        leases: regions that it pins, and other memory that it holds; released when it is closed.
        response_count, response_start_ns: of a decoupled model: responses sent so far, and since when it works on the
            next one.
        cancelled: set when the client has gone; a model may look at it.
        answered: finally. deferred: whoever runs it will answer it later, and not before `execute` returns.
        rescheduled: the model wants it again, which only iterative sequences have; set by `execute`, cleared by who
            queues it again.
        next_states: of a sequence model with implicit state, what it has returned as such, by output.
        tally: where to count what it took; None if nobody asks.
        trace: set if the request is traced.
        shared: inputs whose memory others read as well. Their buffers are read-only; who hands one to code that may
            write to it makes a copy.
        token: whatever the responder needs to find the client again; opaque to everyone else.
    """

    model: str
    version: int
    request_id: str
    inputs: dict[str, Tensor]
    requested: tuple[RequestedOutput, ...] = ()
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    correlation_id: int | str = 0
    flags: int = 0
    priority: int = 0
    timeout_us: int = 0
    deadline_ns: int = 0
    arrival_ns: int = 0
    batch_size: int = 1
    leases: list[Held] = field(default_factory=list)
    cancelled: bool = False
    answered: bool = False
    deferred: bool = False
    response_count: int = 0
    response_start_ns: int = 0
    rescheduled: bool = False
    next_states: Mapping[str, Tensor] = field(default_factory=dict)
    tally: Tally | None = None
    trace: Trace | None = None
    shared: frozenset[str] = frozenset()
    token: object = None
    responder: Responder | None = None

    def respond(self, response: InferResponse | None, final: bool = True) -> None:
        """Answer the request; with `final` it is over, and its inputs must not be touched any more.

        Args:
            response: None with `final` to end a decoupled request without a further response.

        Raises:
            RuntimeError: it has been answered finally before, or nobody listens.
        """
        if self.answered or self.responder is None:
            raise RuntimeError(f"request '{self.request_id}' of model '{self.model}' has been answered already")
        if final:
            self.answered = True
        self.responder(self, response, final)

    def fail(self, error: TensorhubError) -> None:
        """Answer finally with an error, unless it has been answered finally before."""
        if not self.answered:
            self.respond(InferResponse(error=error))
