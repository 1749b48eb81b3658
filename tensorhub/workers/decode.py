"""From a frame of a frontend to an InferRequest: the worker is the only judge of a request.

    INFER frame = [inference.ModelInferRequest, tensorhub.wire.RequestExtras]

An input's bytes are in one of four places: the sender's arena (the extras say where), a region that the client
registered (the input's parameters say where), the next entry of raw_input_contents, or the typed `contents`. A gRPC
frontend passes a client's own message on unread, so everything that Triton's gRPC server checks is checked here, in its
order: parameters, names, data of the inputs, outputs. Then comes what its core checks (`protocol.infer_validation`).

Who owns what: every region that has been pinned is in the request's `leases`. If decoding fails, all are released here;
the arena's slots belong to the sender, who gets them back when it hears of the failure.

For a model on a GPU, inputs in the sender's arena are copied to pages that the GPU reads without a detour. Small ones,
which are in the message, are not: the driver puts such copies into its own commands.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tensorhub import bytes_codec
from tensorhub.backends.calling import ModelCall
from tensorhub.backends.destinations import HandedOutput, PlacedOutput
from tensorhub.devices import DeviceMemory
from tensorhub.errors import InvalidArgument
from tensorhub.ipc import wire
from tensorhub.memory import Held, Memory
from tensorhub.protocol import messages
from tensorhub.protocol.grpc_frames import RAW_INPUT_CONTENTS
from tensorhub.protocol.infer_validation import GivenInput, InputValidator, check_correlation, prefix
from tensorhub.protocol.layouts import LIMIT, Layout, LayoutTable
from tensorhub.protocol.model_spec import ModelSpec
from tensorhub.protocol.sharing import ALLOCATE
from tensorhub.requests import InferRequest, Parameter, RequestedOutput, Tensor, flat_view
from tensorhub.tensors import BY_NAME, DataType
from tensorhub.workers.lent_inputs import LentInput
from tensorhub.workers.request_parameters import read_parameters, value_of
from tensorhub.workers.tensor_parameters import Region, allocates, classification_of, region_of, wants_growth

DEADLINE_GRACE_NS = 20_000_000
"""A client's own clock is to fire first, so that it is told of its deadline in gRPC's words."""

# The families of InferTensorContents in the order in which Triton's gRPC server looks at them: the field, the datatype
# that its elements have, and the datatypes that they may stand for.
_FAMILIES: tuple[tuple[str, DataType, frozenset[DataType]], ...] = (
    ("bool_contents", DataType.BOOL, frozenset((DataType.BOOL,))),
    ("int_contents", DataType.INT32, frozenset((DataType.INT8, DataType.INT16, DataType.INT32))),
    ("int64_contents", DataType.INT64, frozenset((DataType.INT64,))),
    ("uint_contents", DataType.UINT32, frozenset((DataType.UINT8, DataType.UINT16, DataType.UINT32))),
    ("uint64_contents", DataType.UINT64, frozenset((DataType.UINT64,))),
    ("fp32_contents", DataType.FP32, frozenset((DataType.FP32,))),
    ("fp64_contents", DataType.FP64, frozenset((DataType.FP64,))),
    ("bytes_contents", DataType.BYTES, frozenset((DataType.BYTES,))),
)


_PARAMETERS_FLAGS = wire.FLAG_FROM_HTTP | wire.FLAG_PLAIN_PARAMETERS


class _Usual(NamedTuple):
    """What is known of a request that has come before: of its inputs name, datatype and the model's shape."""

    inputs: tuple[tuple[str, DataType, tuple[int, ...]], ...]
    requested: tuple[RequestedOutput, ...]
    batch_size: int
    parameters: Mapping[str, Parameter]
    correlation_id: int | str
    flags: int
    priority: int
    timeout_us: int


class RequestDecoder:
    """Decodes the requests for one model version. Thread-safe as far as `memory` is."""

    __slots__ = ("_called", "_layouts", "_memory", "_seen", "_spec", "_validator")

    def __init__(self, spec: ModelSpec, memory: Memory) -> None:
        self._spec = spec
        self._memory = memory
        self._validator = InputValidator(spec)
        # What a parameter means depends on the way that the request came.
        self._layouts: dict[int, LayoutTable[_Usual]] = {
            way: LayoutTable(RAW_INPUT_CONTENTS)
            for way in (0, wire.FLAG_FROM_HTTP, wire.FLAG_PLAIN_PARAMETERS, _PARAMETERS_FLAGS)
        }
        self._seen: set[bytes] = set()
        self._called: dict[tuple[str, ...], tuple[RequestedOutput, ...]] = {}

    def decode(self, message: wire.Message, arrival_ns: int) -> InferRequest:
        """Decode and validate one INFER message.

        Args:
            arrival_ns: CLOCK_MONOTONIC.

        Returns:
            The request, without token and responder. Its small inputs are private copies, those in an arena writable
            views, those in a region read-only views, or copies if they are BYTES or the model asks for copies.

        Raises:
            TensorhubError: Triton's error for what is wrong first.
        """
        if not message.tail:
            layout = self._layouts[message.flags & _PARAMETERS_FLAGS].find(message.head)
            if layout is not None:
                return self._decode_usual(message, layout, arrival_ns)
        try:
            head = messages.ModelInferRequest.FromString(message.head)
            placed, owner = _read_extras(message.tail) if message.tail else (None, "")
        except messages.DecodeError as exc:
            raise InvalidArgument(f"the request is no ModelInferRequest: {exc}") from exc
        request = InferRequest(
            self._spec.name,
            self._spec.version,
            head.id,
            {},
            deadline_ns=message.deadline_ns + DEADLINE_GRACE_NS if message.deadline_ns else 0,
            arrival_ns=arrival_ns,
        )
        try:
            self._fill(request, head, placed, message, owner)
        except BaseException:
            for lease in request.leases:
                lease.release()
            raise
        if not message.tail and not head.id:
            self._learn(message, head, request)
        return request

    def _decode_usual(self, message: wire.Message, layout: Layout["_Usual"], arrival_ns: int) -> InferRequest:
        """Decode a request whose like has been validated before."""
        body = memoryview(message.head)
        usual = layout.meaning
        return InferRequest(
            self._spec.name,
            self._spec.version,
            "",
            {
                name: Tensor(name, datatype, shape, bytearray(body[start:end]))
                for (name, datatype, shape), (start, end) in zip(usual.inputs, layout.spans, strict=True)
            },
            usual.requested,
            usual.parameters,
            usual.correlation_id,
            usual.flags,
            usual.priority,
            usual.timeout_us,
            message.deadline_ns + DEADLINE_GRACE_NS if message.deadline_ns else 0,
            arrival_ns,
            usual.batch_size,
        )

    def _learn(self, message: wire.Message, head: Any, request: InferRequest) -> None:
        """Remember a valid request if nothing but the bytes of its raw contents can make another one like it invalid.

        Strings are looked at each time, and a region may be gone the next time.
        """
        inputs = request.inputs.values()
        if (
            len(head.raw_input_contents) == len(head.inputs)
            and not any(item.parameters for item in head.inputs)
            and not any(item.datatype is DataType.BYTES for item in inputs)
            and not any(type(output) is PlacedOutput for output in request.requested)
        ):
            if head.parameters and not self._comes_again(head):
                return
            usual = _Usual(
                tuple((item.name, item.datatype, item.shape) for item in inputs),
                request.requested,
                request.batch_size,
                request.parameters,
                request.correlation_id,
                request.flags,
                request.priority,
                request.timeout_us,
            )
            table = self._layouts[message.flags & _PARAMETERS_FLAGS]
            table.learn(message.head, [len(data) for data in head.raw_input_contents], usual)

    def _comes_again(self, head: Any) -> bool:
        """Whether a request with these parameters was here before: most beginnings and ends of sequences come once."""
        key = b"".join(sorted(item.SerializeToString() + name.encode() for name, item in head.parameters.items()))
        if key in self._seen:
            return True
        if len(self._seen) >= LIMIT:
            self._seen.clear()
        self._seen.add(key)
        return False

    def accept_call(self, call: ModelCall, arrival_ns: int) -> InferRequest:
        """Validate what a model of this process asks for.

        Args:
            arrival_ns: CLOCK_MONOTONIC.

        Returns:
            The request, without token and responder. Its inputs are the caller's memory, to be written to only where
            the call says so; the others are `shared`, or copies if the model asks for copies. What is in the memory
            of a GPU stays there for a model that takes it, as in Triton for all who use it; the others get a copy.

        Raises:
            TensorhubError: Triton's error for what is wrong first.
        """
        requested = tuple(call.requested)
        request = InferRequest(
            self._spec.name,
            self._spec.version,
            call.request_id,
            {},
            self._requested_outputs(requested),
            call.parameters,
            call.correlation_id,
            call.flags,
            call.priority,
            call.timeout_us,
            arrival_ns=arrival_ns,
            tally=call.tally,
        )
        copies, writable = self._spec.copies_region_inputs, call.writable
        takes_device = self._spec.takes_device_inputs
        given, shared = [], []
        for tensor in call.inputs:
            data: Any = tensor.data
            if takes_device and type(data) is DeviceMemory:
                if tensor.name not in writable:
                    shared.append(tensor.name)
                given.append(GivenInput(tensor.name, tensor.datatype.value, tensor.shape, data))
                continue
            data = flat_view(data)
            own = tensor.name in writable
            if copies and (data.readonly or not own):
                data = bytearray(data)
            elif not own:
                data = data.toreadonly()
                shared.append(tensor.name)
            given.append(GivenInput(tensor.name, tensor.datatype.value, tensor.shape, data))
        self._accept(request, given, requested)
        if shared:
            request.shared = frozenset(shared)
        return request

    def _requested_outputs(self, names: tuple[str, ...]) -> tuple[RequestedOutput, ...]:
        """Return the outputs that a call asks for; calls mostly ask for the same."""
        found = self._called.get(names)
        if found is None:
            if len(self._called) >= LIMIT:
                self._called.clear()
            found = self._called[names] = tuple([RequestedOutput(name) for name in names])
        return found

    def _accept(self, request: InferRequest, given: list[GivenInput], requested: tuple[str, ...]) -> None:
        request.batch_size, request.inputs = self._validator.accept(given, requested, request.request_id)
        if self._spec.correlation is not None and request.correlation_id:
            check_correlation(self._spec.correlation, request.correlation_id, self._spec.name)

    def _fill(
        self, request: InferRequest, head: Any, placed: dict[int, Any] | None, message: wire.Message, owner: str
    ) -> None:
        from_http = message.flags & wire.FLAG_FROM_HTTP != 0
        parameters = head.parameters
        if parameters:
            if message.flags & wire.FLAG_PLAIN_PARAMETERS:
                request.parameters = {name: value_of(parameter) for name, parameter in parameters.items()}
            else:
                read_parameters(request, parameters, from_http)
        given = self._inputs(head, placed, message, request.leases, owner)
        outputs = head.outputs
        requested: tuple[str, ...] = ()
        if outputs:
            request.requested = self._outputs(outputs, request.leases, from_http, owner)
            requested = tuple([output.name for output in request.requested])
        self._accept(request, given, requested)

    def _inputs(
        self, head: Any, placed: dict[int, Any] | None, message: wire.Message, leases: list[Held], owner: str
    ) -> list[GivenInput]:
        from_http = message.flags & wire.FLAG_FROM_HTTP != 0
        inputs = head.inputs
        described = [(item, item.name) for item in inputs]
        if len(described) > 1 and len({name for _, name in described}) != len(described):
            raise InvalidArgument(f"{prefix(head.id)}input '{_first_repeated(described)}' already exists in request")
        raw = head.raw_input_contents
        raw_count = len(raw)
        has_raw = raw_count > 0 or placed is not None
        raw_index = 0
        given = []
        for index, (item, name) in enumerate(described):
            datatype = item.datatype
            data: bytes | bytearray | memoryview | DeviceMemory
            shape = tuple(item.shape)
            parameters = item.parameters
            region = region_of(parameters, name, from_http) if parameters else None
            if region is not None:
                if item.HasField("contents"):
                    raise self._input_error("unexpected 'content' provided when using shared memory for", name)
                data = self._region_input(region, datatype, leases, owner)
            elif item.HasField("contents"):
                if has_raw:
                    raise InvalidArgument(
                        f"contents field must not be specified when using raw_input_contents for '{name}' for model "
                        f"'{self._spec.name}'"
                    )
                data = self._typed_contents(item.contents, name, datatype)
            elif placed is not None and index in placed:
                reference = placed[index]
                data = self._memory.arena(message.sender, reference.offset, reference.byte_size)
                stages = self._spec.stages_inputs and datatype != "BYTES"
                staged = self._memory.maybe_stage(data) if stages else None
                held = LentInput(data) if staged is None else staged
                leases.append(held)
                data = held.view
            elif raw_index < raw_count:
                data = bytearray(raw[raw_index])
                raw_index += 1
            else:
                raise self._input_error("unable to find data for", name, " in request.")
            given.append(GivenInput(name, datatype, shape, data))
        return given

    def _input_error(self, what: str, name: str, end: str = "") -> InvalidArgument:
        return InvalidArgument(f"{what} input tensor '{name}' for model '{self._spec.name}'{end}")

    def _region_input(
        self, region: "Region", datatype: str, leases: list[Held], owner: str
    ) -> memoryview | bytearray | DeviceMemory:
        lease = self._memory.region(region.name, region.offset, region.byte_size, writable=False, owner=owner)
        device = lease.device
        if device is not None:
            if self._spec.takes_device_inputs and datatype != "BYTES":
                leases.append(lease)
                return device
            try:
                return lease.copy_to_host()
            finally:
                lease.release()
        # The lengths inside BYTES are read several times: from a copy that the client cannot change any more.
        if self._spec.copies_region_inputs or datatype == "BYTES":
            try:
                return bytearray(lease.view)
            finally:
                lease.release()
        leases.append(lease)
        return lease.view

    def _typed_contents(self, contents: Any, name: str, datatype_name: str) -> bytearray:
        datatype = BY_NAME.get(datatype_name)
        data: bytearray | None = None
        for field, family, stands_for in _FAMILIES:
            values = getattr(contents, field)
            if not values:
                continue
            if data is not None:
                raise self._input_error(
                    "unexpected explicit tensor data for", name, ", binary data was already supplied."
                )
            if datatype is None or datatype not in stands_for:
                wanted = "<invalid>" if datatype is None else datatype.value
                raise self._input_error(
                    "unexpected explicit tensor data for",
                    name,
                    f" of type '{family.value}', expected datatype '{wanted}'",
                )
            if datatype is DataType.BYTES:
                data = bytearray(bytes_codec.serialize(list(values)))
            else:
                # Integers of 32 bits that stand for smaller ones are narrowed without a word, as in Triton.
                data = bytearray(np.array(values, family.numpy_name).astype(datatype.numpy_name).tobytes())
        return bytearray() if data is None else data

    def _outputs(self, outputs: Any, leases: list[Held], from_http: bool, owner: str) -> tuple[RequestedOutput, ...]:
        result: dict[str, RequestedOutput] = {}
        for output in outputs:
            name = output.name
            # Listed twice, it counts once, the first time.
            if name in result:
                continue
            parameters = output.parameters
            result[name] = (
                self._output(name, parameters, leases, from_http, owner) if parameters else RequestedOutput(name)
            )
        return tuple(result.values())

    def _output(self, name: str, parameters: Any, leases: list[Held], from_http: bool, owner: str) -> RequestedOutput:
        classification = classification_of(parameters, from_http)
        region = region_of(parameters, name, from_http)
        if allocates(parameters, name):
            if region is not None:
                raise InvalidArgument(f"output '{name}' can't set both 'shared_memory_region' and '{ALLOCATE}'")
            self._memory.check_hands_out(name)
            return HandedOutput(name, classification=classification, owner=owner)
        if region is None:
            return RequestedOutput(name, classification=classification)
        if classification:
            raise InvalidArgument("output can't set both 'shared_memory_region' and 'classification'")
        grows = wants_growth(parameters)
        lease = self._memory.region(
            region.name, region.offset, region.byte_size, writable=True, owner=owner, grow=grows
        )
        leases.append(lease)
        return PlacedOutput(
            name=name, region=region.name, offset=region.offset, byte_size=region.byte_size, lease=lease, grows=grows
        )


def _read_extras(tail: bytes) -> tuple[dict[int, Any] | None, str]:
    """Return which inputs lie in the sender's arena, None if there are none, and the owner of the regions."""
    extras = messages.RequestExtras.FromString(tail)
    return {item.index: item.data for item in extras.inputs} or None, extras.owner


def _first_repeated(described: list[tuple[Any, str]]) -> str:
    seen: set[str] = set()
    for _, name in described:
        if name in seen:
            return name
        seen.add(name)
    raise ValueError("no name is repeated")
