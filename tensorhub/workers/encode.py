"""From an InferResponse to the parts of a frame for the frontend.

    RESULT, PARTIAL frame = [inference.ModelInferResponse, tensorhub.wire.ResponseExtras]

A small response carries its tensors in raw_output_contents, so that the gRPC frontend passes it on unread. A large one
leaves them out (FLAG_HEAD_ONLY): its tensors are copied once into this process's arena and the extras say where. An
output that the client wants in a region of its own is written there and is empty here, as is one for which the server
makes the region.
"""

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tensorhub.backends.destinations import HandedOutput, PlacedOutput
from tensorhub.devices import DeviceMemory
from tensorhub.errors import InternalError
from tensorhub.ipc import wire
from tensorhub.memory import Memory, Slot
from tensorhub.protocol import messages
from tensorhub.protocol.grpc_frames import RAW_OUTPUT_CONTENTS, varint
from tensorhub.protocol.layouts import LIMIT
from tensorhub.protocol.model_spec import ModelSpec
from tensorhub.requests import (
    NO_SEQUENCE,
    Buffer,
    InferRequest,
    InferResponse,
    Parameter,
    RequestedOutput,
    Tensor,
    flat_view,
)
from tensorhub.workers.classification import classify

_RAW_TAG = bytes((RAW_OUTPUT_CONTENTS << 3 | 2,))

SMALL_OUTPUT = 4096
"""Bytes of an output that never takes a slot, not even in a large response."""


class EncodedResponse(NamedTuple):
    """The parts of a frame, and what they refer to.

    Attributes:
        flags: wire.FLAG_HEAD_ONLY, or 0.
        slots: the caller frees them when the receiver says so, or dies, or if the frame is not sent.
    """

    head: bytes
    tail: bytes
    flags: int
    slots: list[Slot]


class _Usual(NamedTuple):
    """What is known of a response that has come before.

    Attributes:
        head: the serialised ModelInferResponse without its raw contents.
        contents: for each of its outputs the position in the response, tag and length of its bytes, and their number.
    """

    head: bytes
    contents: tuple[tuple[int, bytes, int], ...]


class ResponseEncoder:
    """Encodes the responses of one model version. Thread-safe as far as `memory` is: what it remembers are values.

    Nearly all responses of a model are alike but for their tensors' bytes. What is in front of these is remembered.
    """

    __slots__ = ("_memory", "_spec", "_usual")

    def __init__(self, spec: ModelSpec, memory: Memory) -> None:
        self._spec = spec
        self._memory = memory
        self._usual: dict[Hashable, _Usual] = {}

    def encode(self, request: InferRequest, response: InferResponse, *, from_http: bool) -> EncodedResponse:
        """See `encode_response`."""
        key = _maybe_key(request, response)
        if key is None:
            return encode_response(request, response, self._memory, from_http=from_http, spec=self._spec)
        usual = self._usual.get(key)
        if usual is not None:
            head = _maybe_join(usual, response)
            if head is not None:
                return EncodedResponse(head, b"", 0, [])
        encoded = encode_response(request, response, self._memory, from_http=from_http, spec=self._spec)
        if not encoded.flags:
            self._learn(key, encoded.head, response)
        return encoded

    def _learn(self, key: Hashable, body: bytes, response: InferResponse) -> None:
        message = messages.ModelInferResponse.FromString(body)
        sent = {output.name for output in message.outputs}
        positions = [position for position, tensor in enumerate(response.outputs) if tensor.name in sent]
        contents = tuple(
            (position, _RAW_TAG + varint(len(data)), len(data))
            for position, data in zip(positions, message.raw_output_contents, strict=True)
        )
        message.ClearField("raw_output_contents")
        if len(self._usual) >= LIMIT:
            self._usual.clear()
        self._usual[key] = _Usual(message.SerializeToString(), contents)


def _maybe_key(request: InferRequest, response: InferResponse) -> Hashable | None:
    """Return what decides about the head of a response, or None if it has more in it than tensors."""
    parameters = response.parameters
    if request.request_id or (parameters and parameters is not NO_SEQUENCE):
        return None
    wanted = request.requested
    names: tuple[str, ...] = ()
    if wanted:
        if any(type(output) is not RequestedOutput or output.classification for output in wanted):
            return None
        names = tuple([output.name for output in wanted])
    # PERF: members of an Enum are compared by identity, and their own hash is slow.
    outputs = tuple([(tensor.name, id(tensor.datatype), tensor.shape) for tensor in response.outputs])
    return (names, outputs, True) if parameters else (names, outputs)


def _maybe_join(usual: _Usual, response: InferResponse) -> bytes | None:
    """Return the serialised response, or None if a tensor has not the size that is expected: strings differ."""
    pieces: list[Any] = [usual.head]
    for position, mark, size in usual.contents:
        data = response.outputs[position].data
        if byte_size(data) != size or type(data) is DeviceMemory:
            return None
        pieces += (mark, data)
    return b"".join(pieces)


def encode_response(
    request: InferRequest,
    response: InferResponse,
    memory: Memory,
    *,
    from_http: bool,
    spec: ModelSpec | None = None,
) -> EncodedResponse:
    """Encode a response without an error, and write those outputs that go to regions.

    Args:
        response: outputs that the client did not list are left out, if it listed any.
        from_http: mark outputs that went to regions, so that the HTTP frontend shows them without data.
        spec: the model's; its output reshapes are undone. None for a model without any.

    Raises:
        InvalidArgument: an output has no classes, and they were asked for.
        InternalError: an output does not fit the place that the client gave for it; no region has been written to.
        Unavailable: a region may not be made larger, and none has been written to; or the arena is full, or no region
            can be made, and regions have been written to.
    """
    message = messages.ModelInferResponse(
        model_name=request.model, model_version=str(request.version), id=request.request_id
    )
    if response.parameters:
        _set_parameters(message.parameters, response.parameters)
    places: Mapping[str, Any] = {output.name: output for output in request.requested}
    described = message.outputs
    contents: list[Buffer] = []
    writes: list[tuple[PlacedOutput, Buffer, int]] = []
    handed: list[tuple[Any, Buffer, str]] = []
    total = 0
    for tensor in response.outputs:
        name = tensor.name
        place = places.get(name)
        if place is None and places:
            continue
        if place is not None and place.classification:
            if type(tensor.data) is DeviceMemory:
                tensor = Tensor(name, tensor.datatype, tensor.shape, tensor.data.to_host())
            tensor = _classes(tensor, place.classification, spec)
        entry = described.add(name=name, datatype=tensor.datatype.value, shape=_shape(tensor, spec))
        size = byte_size(tensor.data)
        if isinstance(place, PlacedOutput):
            if place.grows:
                place.lease.grow(size)
                entry.parameters["shared_memory_byte_size"].int64_param = size
            else:
                _check_fits(place, size)
            writes.append((place, tensor.data, size))
            contents.append(b"")
            if from_http:
                entry.parameters["shared_memory_region"].string_param = place.region
        elif type(place) is HandedOutput:
            handed.append((entry.parameters, tensor.data, place.owner))
            contents.append(b"")
        else:
            contents.append(tensor.data)
            total += size
    for place, data, size in writes:
        _write(place, data, size)
    if handed:
        return _hand_out(handed, message, contents, total, memory)
    return _finish(message, contents, total, memory)


def _finish(message: Any, contents: list[Buffer], total: int, memory: Memory) -> EncodedResponse:
    if total <= wire.INLINE_LIMIT:
        message.raw_output_contents.extend([_inline(data) for data in contents])
        return EncodedResponse(message.SerializeToString(), b"", 0, [])
    tail, slots = _place_contents(contents, memory)
    return EncodedResponse(message.SerializeToString(), tail, wire.FLAG_HEAD_ONLY, slots)


def _hand_out(
    handed: list[tuple[Any, Buffer, str]], message: Any, contents: list[Buffer], total: int, memory: Memory
) -> EncodedResponse:
    """Make regions for outputs, each of which comes with its parameters in the message; all of them, or none."""
    made: list[tuple[str, str]] = []
    try:
        for parameters, data, owner in handed:
            given = flat_view(data)
            name = memory.hand_out(given, owner)
            made.append((name, owner))
            parameters["shared_memory_region"].string_param = name
            parameters["shared_memory_offset"].int64_param = 0
            parameters["shared_memory_byte_size"].int64_param = len(given)
        return _finish(message, contents, total, memory)
    except BaseException:
        for name, owner in made:
            memory.take_back(name, owner)
        raise


def _classes(tensor: Tensor, count: int, spec: ModelSpec | None) -> Tensor:
    labels = spec.labels.get(tensor.name, ()) if spec is not None else ()
    return classify(tensor, count, labels, batched=spec is not None and spec.max_batch_size > 0)


def byte_size(data: Buffer) -> int:
    """Return how many bytes a tensor's buffer holds."""
    if isinstance(data, np.ndarray):
        return data.nbytes
    if isinstance(data, (bytes, DeviceMemory)):
        return len(data)
    return memoryview(data).nbytes


def _inline(data: Buffer) -> bytes:
    return bytes(data.to_host() if type(data) is DeviceMemory else data)


def _shape(tensor: Tensor, spec: ModelSpec | None) -> tuple[int, ...]:
    output = spec.outputs.get(tensor.name) if spec is not None else None
    return tensor.shape if output is None else output.client_shape(tensor.shape)


def _check_fits(place: PlacedOutput, size: int) -> None:
    if size > place.byte_size:
        raise InternalError(
            f"shared memory size specified with the request for output '{place.name}' ({place.byte_size} bytes) should "
            f"be at least {size} bytes to hold the results"
        )


def _write(place: PlacedOutput, data: Buffer, size: int) -> None:
    """Copy an output to its region, unless the model has put it there already."""
    device = place.lease.device
    if device is not None:
        device.fill(data if isinstance(data, DeviceMemory) else flat_view(data))
    elif isinstance(data, DeviceMemory):
        data.read_into(place.lease.view)
        place.lease.commit(size)
    elif size:
        if not _is_at(place, data):
            place.lease.fill(memoryview(data).cast("B"))
        place.lease.commit(size)


def _is_at(place: PlacedOutput, data: Buffer) -> bool:
    if not isinstance(data, np.ndarray):
        return False
    start: int = np.frombuffer(place.lease.view, np.uint8).ctypes.data
    return int(data.ctypes.data) == start


def _place_contents(contents: list[Buffer], memory: Memory) -> tuple[bytes, list[Slot]]:
    extras = messages.ResponseExtras()
    slots: list[Slot] = []
    try:
        for data in contents:
            size = byte_size(data)
            entry = extras.outputs.add()
            if size <= SMALL_OUTPUT:
                entry.inline = _inline(data)
                continue
            slot = memory.allocate(size)
            slots.append(slot)
            if type(data) is DeviceMemory:
                data.read_into(slot.view)
            else:
                slot.fill(memoryview(data).cast("B"))
            entry.slot.offset = slot.offset
            entry.slot.byte_size = size
        return extras.SerializeToString(), slots
    except BaseException:
        for slot in slots:
            slot.free()
        raise


def _set_parameters(into: Any, parameters: Mapping[str, Parameter]) -> None:
    for name, value in parameters.items():
        parameter = into[name]
        try:
            if isinstance(value, bool):
                parameter.bool_param = value
            elif isinstance(value, int):
                parameter.int64_param = value
            elif isinstance(value, float):
                parameter.double_param = value
            else:
                parameter.string_param = value
        except ValueError as exc:
            raise InternalError(f"response parameter '{name}' cannot be sent: {exc}") from exc
