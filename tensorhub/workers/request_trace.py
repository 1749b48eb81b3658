"""The trace of one request in a worker: when it was where, and (level TENSORS) what went in and out.

A trace is told to the hub once, when both the run of the request and its last answer are over, whichever is later; one
that never ran, when it is answered. Requests that are not traced have no such object, and cost nothing.

What a traced request asks of other models (the steps of an ensemble, and what a model calls with its trace) is traced
too, as a part that names its parent. Each part says how many it has made, so that the hub knows what to wait for.
"""

import itertools
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tensorhub import bytes_codec
from tensorhub.protocol import messages, trace_context
from tensorhub.protocol.trace_settings import TENSORS, TIMESTAMPS
from tensorhub.requests import InferRequest, InferResponse, Tensor, flat_view
from tensorhub.tensors import DataType

ELEMENTS_LIMIT = 1_000
"""Elements of a tensor that are written down; a trace is for people, and a line of it must not be a tensor's copy."""

Tell = Callable[[Any], None]
"""Takes a `tensorhub.wire.TraceFragment`; thread-safe."""


class RequestTrace:
    """See the module. Thread-safe.

    Args:
        origin: the `tensorhub.wire.TraceOrigin` that came with the request.
        tell: called once.
    """

    def __init__(self, origin: Any, request: InferRequest, tell: Tell) -> None:
        self._origin = origin
        self._part: bool = origin.part
        self._children = 0
        self._over = False
        self._level: int = origin.level
        self._tell = tell
        self._lock = threading.Lock()
        self._running = False
        self._answered = False
        self._context = trace_context.parse(origin.context) if origin.context else None
        self._fragment = messages.TraceFragment(
            pid=origin.pid,
            number=origin.number,
            model=request.model,
            version=request.version,
            request_id=request.request_id,
            part=messages.TraceFragment.WORK,
            id=_new_id() if self._part else 0,
            parent=origin.parent,
        )
        if self._context is not None:
            self._context = self._context._replace(span_id=trace_context.new_span_id())
            self._fragment.span = self._context.span_id
        self._stamp("REQUEST_START", request.arrival_ns)

    @property
    def carrier(self) -> str:
        """See requests.Trace."""
        return "" if self._context is None else self._context.carrier()

    def called(self, request: InferRequest) -> "RequestTrace | None":
        """See requests.Trace."""
        origin = self.called_elsewhere()
        if origin is None:
            return None
        trace = RequestTrace(origin, request, self._tell)
        trace.queued(request, request.arrival_ns)
        return trace

    def called_elsewhere(self) -> Any:
        """See requests.Trace."""
        with self._lock:
            if self._over:
                return None
            self._children += 1
        origin, context = self._origin, self._context
        return messages.TraceOrigin(
            pid=origin.pid,
            number=origin.number,
            level=self._level,
            context="" if context is None else context.header(),
            part=True,
            parent=self._fragment.id,
        )

    def refused(self) -> None:
        """See requests.Trace."""
        with self._lock:
            self._children -= 1

    def queued(self, request: InferRequest, now_ns: int) -> None:
        """It goes into the queue of its model."""
        self._stamp("QUEUE_START", now_ns)
        self._tensors("TENSOR_QUEUE_INPUT", request.inputs.values())

    def started(self) -> None:
        """Its run begins."""
        with self._lock:
            self._running = True

    def ran(self, started_ns: int, times: tuple[int, int] | None, ended_ns: int) -> None:
        """Its run is over."""
        with self._lock:
            input_end_ns, output_start_ns = times or (started_ns, ended_ns)
            self._stamp("COMPUTE_START", started_ns)
            self._stamp("COMPUTE_INPUT_END", input_end_ns)
            self._stamp("COMPUTE_OUTPUT_START", output_start_ns)
            self._stamp("COMPUTE_END", ended_ns)
            self._running = False
            done = self._answered
        if done:
            self._finish(ended_ns)

    def responded(self, response: InferResponse | None, final: bool, now_ns: int) -> None:
        """An answer is sent."""
        with self._lock:
            if response is not None:
                self._tensors("TENSOR_BACKEND_OUTPUT", response.outputs)
                if not self._part:
                    self._stamp("INFER_RESPONSE_COMPLETE", now_ns)
            self._answered = self._answered or final
            done = final and not self._running
        if done:
            self._finish(now_ns)

    def _finish(self, now_ns: int) -> None:
        with self._lock:
            self._over = True
            self._fragment.children = self._children
        self._stamp("REQUEST_END", now_ns)
        self._tell(self._fragment)

    def _stamp(self, name: str, at_ns: int) -> None:
        if self._level & TIMESTAMPS:
            self._fragment.stamps.add(name=name, ns=at_ns)

    def _tensors(self, activity: str, tensors: Iterable[Tensor]) -> None:
        if self._level & TENSORS:
            for tensor in tensors:
                self._fragment.tensors.add(
                    activity=activity,
                    name=tensor.name,
                    data=_text(tensor),
                    shape=",".join(map(str, tensor.shape)),
                    datatype=tensor.datatype.value,
                    after=len(self._fragment.stamps),
                )


_numbers = itertools.count(1)


def _new_id() -> int:
    """Return what no other part of any trace has, for as long as traces take."""
    return os.getpid() << 32 | next(_numbers) & 0xFFFFFFFF


def _text(tensor: Tensor) -> str:
    """Write a tensor's elements as Triton does: with commas, strings in quotes."""
    data = flat_view(tensor.data)
    if tensor.datatype is DataType.BYTES:
        elements = bytes_codec.deserialize(data).tolist()
        shown = [f'"{element.decode("utf-8", "replace")}"' for element in elements[:ELEMENTS_LIMIT]]
        return ",".join(shown)
    dtype = _DTYPES.get(tensor.datatype)
    if dtype is None:
        return bytes(data[:ELEMENTS_LIMIT]).hex()
    values = np.frombuffer(data, dtype)[:ELEMENTS_LIMIT]
    if dtype.kind == "f":
        return ",".join(f"{value:g}" for value in values.tolist())
    return ",".join(str(int(value)) for value in values)


_DTYPES = {
    DataType.BOOL: np.dtype("?"),
    DataType.UINT8: np.dtype("u1"),
    DataType.UINT16: np.dtype("<u2"),
    DataType.UINT32: np.dtype("<u4"),
    DataType.UINT64: np.dtype("<u8"),
    DataType.INT8: np.dtype("i1"),
    DataType.INT16: np.dtype("<i2"),
    DataType.INT32: np.dtype("<i4"),
    DataType.INT64: np.dtype("<i8"),
    DataType.FP16: np.dtype("<f2"),
    DataType.FP32: np.dtype("<f4"),
    DataType.FP64: np.dtype("<f8"),
}
