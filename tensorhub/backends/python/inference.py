"""`pb_utils.InferenceRequest`: a request as a model sees it."""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tensorhub.backends.calling import ModelCall
from tensorhub.backends.destinations import maybe_place
from tensorhub.backends.python import model_calls
from tensorhub.backends.python.errors import TritonModelException
from tensorhub.backends.python.model_calls import ResponseIterator
from tensorhub.backends.python.preferred_memory import PreferredMemory
from tensorhub.backends.python.responses import InferenceResponse, InferenceResponseSender, checked_parameters
from tensorhub.backends.python.tensors import NUMPY_TYPES, Tensor
from tensorhub.protocol.model_spec import ModelSpec
from tensorhub.requests import InferRequest, Trace
from tensorhub.tensors import element_count

if TYPE_CHECKING:
    import asyncio

_OWN_REFERENCES = 3
"""To a tensor of which the model keeps nothing: the table's, a local name's, and that of getrefcount's argument."""

RELEASE_ALL = 1
RELEASE_RESCHEDULE = 2
"""TRITONSERVER_REQUEST_RELEASE_*."""


class InferenceTrace:
    """The trace of a request; a request that is made with it is a part of it."""

    __slots__ = ("_carrier", "_server")

    def __init__(self, carrier: str = "") -> None:
        self._carrier = carrier
        self._server: Trace | None = None

    def get_context(self) -> str | None:
        """Return the carrier of the trace's context, JSON of its headers; None if there is no context."""
        return self._carrier or None


class InferenceRequest:
    """A request to a model: one that it has got from the server, or one that it makes to call another model."""

    __slots__ = (
        "_correlation_id",
        "_decoupled",
        "_flags",
        "_model_name",
        "_model_version",
        "_parameters",
        "_preferred_memory",
        "_release_flags",
        "_request_id",
        "_requested",
        "_sender",
        "_server",
        "_spec",
        "_tensors",
        "_timeout_us",
        "_trace",
    )

    def __init__(
        self,
        request_id: str = "",
        correlation_id: int | str = 0,
        inputs: Iterable[Tensor] = (),
        requested_output_names: Iterable[str] = (),
        model_name: str = "",
        model_version: int = -1,
        flags: int = 0,
        timeout: int = 0,
        preferred_memory: PreferredMemory | None = None,
        trace: InferenceTrace | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(correlation_id, bool) or not isinstance(correlation_id, (int, str)):
            raise TritonModelException("Correlation ID must be integer or string")
        where = f"for request with id '{request_id}' and model name '{model_name}' should not be empty."
        tensors = list(inputs)
        if any(tensor is None for tensor in tensors):
            raise TritonModelException(f"Input tensor {where}")
        names = set(requested_output_names)
        if "" in names:
            raise TritonModelException(f"Requested output name {where}")
        self._server: InferRequest | None = None
        self._spec: ModelSpec | None = None
        self._decoupled = False
        self._sender: InferenceResponseSender | None = None
        self._request_id = request_id
        self._correlation_id = correlation_id
        self._tensors: dict[str, Tensor] | None = {tensor.name(): tensor for tensor in tensors}
        self._requested: frozenset[str] | set[str] = names
        self._model_name = model_name
        self._model_version = model_version
        self._flags = flags
        self._release_flags = RELEASE_ALL
        self._timeout_us = timeout
        self._preferred_memory = preferred_memory
        self._trace = trace
        self._parameters: Mapping[str, Any] = checked_parameters(parameters) if parameters else {}

    @classmethod
    def _from_server(
        cls, server: InferRequest, spec: ModelSpec, all_outputs: frozenset[str], decoupled: bool
    ) -> "InferenceRequest":
        """Wrap a request of the server; nothing is taken out of it before the model asks."""
        request = cls.__new__(cls)
        request._server = server
        request._spec = spec
        request._decoupled = decoupled
        request._sender = None
        request._trace = None
        request._tensors = None
        request._requested = all_outputs
        if server.requested:
            request._requested = {item.name for item in server.requested} | spec.state_outputs
        request._flags = server.flags
        request._release_flags = RELEASE_ALL
        return request

    def inputs(self) -> list[Tensor]:
        return list(self._inputs().values())

    def _inputs(self) -> dict[str, Tensor]:
        tensors = self._tensors
        if tensors is None:
            assert self._server is not None
            wrap = Tensor._from_wire
            tensors = self._tensors = {name: wrap(tensor) for name, tensor in self._server.inputs.items()}
            for name in self._server.shared:
                tensors[name]._shared = True
        return tensors

    def _part_with_inputs(self) -> None:
        """The model has run: refer to the inputs no more, so that only those are in use that it has kept."""
        tensors, self._tensors = self._tensors or {}, None
        for tensor in tensors.values():
            if sys.getrefcount(tensor) > _OWN_REFERENCES:
                tensor._hold()

    def requested_output_names(self) -> set[str]:
        """Return the outputs that are wanted: those that the client listed, or all."""
        return set(self._requested)

    def request_id(self) -> str:
        return self._request_id if self._server is None else self._server.request_id

    def correlation_id(self) -> int | str:
        return self._correlation_id if self._server is None else self._server.correlation_id

    def model_name(self) -> str:
        return self._model_name if self._server is None else self._server.model

    def model_version(self) -> int:
        return self._model_version if self._server is None else self._server.version

    def flags(self) -> int:
        """Return the TRITONSERVER_REQUEST_FLAG_* of the sequence."""
        return self._flags

    def set_flags(self, flags: int) -> None:
        self._flags = flags

    def timeout(self) -> int:
        """Return the client's timeout in microseconds; 0 for none."""
        return self._timeout_us if self._server is None else self._server.timeout_us

    def parameters(self) -> str:
        """Return the parameters as JSON."""
        parameters = self._parameters if self._server is None else self._server.parameters
        return json.dumps(dict(parameters)) if parameters else "{}"

    def preferred_memory(self) -> PreferredMemory | None:
        return self._preferred_memory if self._server is None else None

    def trace(self) -> InferenceTrace:
        if self._server is None:
            return self._trace if self._trace is not None else InferenceTrace()
        trace = InferenceTrace()
        if self._server.trace is not None:
            trace._server, trace._carrier = self._server.trace, self._server.trace.carrier
        return trace

    def is_cancelled(self) -> bool:
        """Tell whether the client has gone."""
        return self._server is not None and self._server.cancelled

    def get_response_sender(self) -> InferenceResponseSender:
        """Return what answers this request in place of `execute`'s return value.

        Raises:
            TritonModelException: this is a request that the model has made itself.
        """
        if self._server is None:
            raise TritonModelException("Only a request that the model has been given has a response sender.")
        if self._sender is None:
            self._sender = InferenceResponseSender(self._server, self._requested, self._decoupled)
            self._server.deferred = True
        return self._sender

    def set_release_flags(self, flags: int) -> None:
        """Say what becomes of the request after `execute`: RELEASE_RESCHEDULE has it run again.

        Only iterative sequences can be run again. For any other model, `execute` fails afterwards.
        """
        self._release_flags = flags

    @property
    def _rescheduled(self) -> bool:
        return self._release_flags & RELEASE_RESCHEDULE != 0

    def output_view(self, name: str, shape: Iterable[int] | None = None) -> npt.NDArray[Any] | None:
        """Return the memory where the client wants an output, so that the model can write it in place.

        An extension to Triton's API. Write to the array, then return it as the output's tensor: nothing is copied.

        Args:
            shape: of the output; what the config says if it is not given, with the rows of this request.

        Returns:
            An array of the output's type, or None if there is no such memory: the client wants the output in the
            response, or not at all, or has given too few bytes; the shape is not known; or the type has no array.
        """
        if self._server is None or self._spec is None:
            return None
        place = maybe_place(self._server, name)
        output = self._spec.outputs.get(name)
        if place is None or output is None or output.datatype not in NUMPY_TYPES or not output.datatype.item_size:
            return None
        dims = output.dims if output.reshape is None else output.reshape
        wanted = tuple(shape) if shape is not None else ((self._server.batch_size,) if output.batched else ()) + dims
        dtype = NUMPY_TYPES[output.datatype]
        view: Any = place.lease.view
        if any(dimension < 1 for dimension in wanted) or element_count(wanted) * dtype.itemsize > len(view):
            return None
        return np.ndarray(wanted, dtype, buffer=view)

    def exec(self, decoupled: bool = False) -> InferenceResponse | ResponseIterator:
        """Run the request on the model that it names.

        Args:
            decoupled: return an iterator over the responses. Without it, the model must not be decoupled.

        Returns:
            The response; what went wrong is its error.

        Raises:
            TritonModelException: not inside a model's `execute`.
        """
        return model_calls.run(self._call(), decoupled, self._preferred_memory)

    def async_exec(self, decoupled: bool = False) -> "asyncio.Future[Any]":
        """Start the request on the model that it names; to be awaited in an `async def execute`.

        Raises:
            TritonModelException: not inside a model's `execute`.
            RuntimeError: not inside a coroutine.
        """
        return model_calls.start(self._call(), decoupled, self._preferred_memory)

    def _call(self) -> ModelCall:
        parameters = self._parameters if self._server is None else self._server.parameters
        return ModelCall(
            self.model_name(),
            self.model_version(),
            [tensor._to_wire() for tensor in self._inputs().values()],
            tuple(self._requested),
            self.request_id(),
            self.correlation_id(),
            self._flags,
            0,
            self.timeout(),
            parameters,
            trace=None if self._trace is None else self._trace._server,
        )
