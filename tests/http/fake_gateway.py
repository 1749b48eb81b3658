"""A gateway without a server behind it: it keeps the contract of `GatewayPort` and runs toy models itself.

Its own account of what it was asked and what it still holds is the answer of the model `inspect`, so that a test can
read it from another process.

    add_sub    two INT32 [1,16]: sum and difference
    echo       any inputs, returned under their own names; an output in shared memory counts as written there
    slow       never answers
    failing    answers with an error
    twice      answers two times
    nothing    ends without an answer
    protocols  how many connections of clients this process has in memory
    decoupled  is one; answers as often as its parameter `count` says, within its window
"""

import asyncio
import gc
import json
import mmap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tensorhub.errors import Code, InvalidArgument, TensorhubError, Unavailable
from tensorhub.frontend.catalog import Catalog, ServedVersion
from tensorhub.frontend.port import InferReply, OnControl, OnReply, PlacedInput
from tensorhub.ipc.wire import FLAG_FROM_HTTP, FLAG_PLAIN_PARAMETERS, FLAG_STREAM, FLAG_VERSION, STREAM_WINDOW
from tensorhub.protocol import messages

ARENA_BUDGET = 512 * 1024 * 1024


class FakeReservation:
    """Page-aligned memory; counts itself in and out."""

    def __init__(self, gateway: "FakeGateway", byte_size: int) -> None:
        self._gateway = gateway
        self._map = mmap.mmap(-1, max(byte_size, 1))
        self.view = memoryview(self._map)[:byte_size]
        self._freed = False
        gateway.count["reservations"] += 1
        gateway.held += byte_size

    def free(self) -> None:
        if not self._freed:
            self._freed = True
            self._gateway.count["reservations"] -= 1
            self._gateway.held -= len(self.view)


class FakeGateway:
    """See the module."""

    def __init__(self, snapshot: Any = None) -> None:
        self.catalog = Catalog(snapshot)
        self.count: Counter[str] = Counter()
        self.held = 0
        self.last: dict[str, Any] = {}
        self.controls: list[Any] = []
        self.closed = False
        self.tracing = False
        self.traceparent = ""
        self.control_result: Callable[[Any], Any] = lambda operation: messages.ControlResult()
        self._next_id = 0
        self._in_flight: dict[int, tuple[OnReply, Sequence[PlacedInput]]] = {}
        self._free: dict[int, int] = {}
        self.window_waits: dict[int, Callable[[], None]] = {}

    def reserve(self, byte_size: int) -> FakeReservation:
        if self.held + byte_size > ARENA_BUDGET:
            raise Unavailable("the arena is full")
        return FakeReservation(self, byte_size)

    def infer(
        self,
        target: ServedVersion,
        body: bytes,
        on_reply: OnReply,
        *,
        flags: int = 0,
        placed: Sequence[PlacedInput] = (),
        deadline_ns: int = 0,
        owner: str = "",
        traceparent: str = "",
    ) -> int:
        assert flags & ~FLAG_VERSION in (FLAG_FROM_HTTP, FLAG_FROM_HTTP | FLAG_STREAM | FLAG_PLAIN_PARAMETERS)
        self.traceparent = traceparent
        self._next_id += 1
        request_id = self._next_id
        request = messages.ModelInferRequest.FromString(body)
        inputs = read_inputs(request, placed)
        self.last = describe(request, placed)
        self._in_flight[request_id] = (on_reply, placed)
        self.count["requests"] += 1
        run = MODELS.get(target.model, echo)
        asyncio.get_running_loop().call_soon(self._run, run, request_id, target, request, inputs)
        return request_id

    def _run(
        self, run: "Model", request_id: int, target: ServedVersion, request: Any, inputs: Mapping[str, bytes]
    ) -> None:
        if request_id in self._in_flight:
            try:
                run(self, request_id, target, request, inputs)
            except TensorhubError as exc:
                self.reply(request_id, InferReply(error=exc))

    def reply(self, request_id: int, reply: InferReply) -> None:
        """Answer a request, as the worker would."""
        if not reply.final:
            self._free[request_id] = self._free.get(request_id, STREAM_WINDOW) - 1
            self.count["partial"] += 1
        on_reply, placed = self._in_flight[request_id]
        if reply.final:
            del self._in_flight[request_id]
            for item in placed:
                item.reservation.free()
        on_reply(reply)

    def cancel(self, request_id: int) -> None:
        entry = self._in_flight.pop(request_id, None)
        if entry is not None:
            self.count["cancelled"] += 1
            for item in entry[1]:
                item.reservation.free()

    def credit(self, request_id: int, count: int) -> None:
        self._free[request_id] += count
        go_on = self.window_waits.pop(request_id, None)
        if go_on is not None:
            asyncio.get_running_loop().call_soon(go_on)

    def has_room(self, request_id: int) -> bool:
        """Whether a streamed request may be answered once more."""
        return request_id in self._in_flight and self._free.get(request_id, STREAM_WINDOW) > 0

    def control(self, operation: Any, on_result: OnControl) -> None:
        self.controls.append(operation)
        try:
            on_result(self.control_result(operation), None)
        except TensorhubError as exc:
            on_result(None, exc)

    async def close(self) -> None:
        self.closed = True

    def account(self) -> dict[str, Any]:
        """What the gateway has seen, and what it holds."""
        return {
            "requests": self.count["requests"],
            "in_flight": len(self._in_flight),
            "reservations": self.count["reservations"],
            "held": self.held,
            "cancelled": self.count["cancelled"],
            "unreleased": self.count["unreleased"],
        }


Model = Callable[[FakeGateway, int, ServedVersion, Any, Mapping[str, bytes]], None]


def read_inputs(request: Any, placed: Sequence[PlacedInput]) -> dict[str, bytes]:
    """Collect the inputs' bytes from where the contract says that they are."""
    by_index = {item.index: item for item in placed}
    inline = iter(request.raw_input_contents)
    inputs: dict[str, bytes] = {}
    for index, tensor in enumerate(request.inputs):
        if index in by_index:
            item = by_index[index]
            data = item.reservation.view[item.offset : item.offset + item.byte_size]
            assert len(data) == item.byte_size
            inputs[tensor.name] = bytes(data)
        elif "shared_memory_region" in tensor.parameters:
            inputs[tensor.name] = b""
        else:
            inputs[tensor.name] = next(inline)
    assert next(inline, None) is None
    return inputs


def describe(request: Any, placed: Sequence[PlacedInput]) -> dict[str, Any]:
    """A request in terms that a test can compare."""
    return {
        "id": request.id,
        "parameters": parameter_values(request.parameters),
        "inputs": [
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(tensor.shape),
                "parameters": parameter_values(tensor.parameters),
            }
            for tensor in request.inputs
        ],
        "outputs": [
            {"name": output.name, "parameters": parameter_values(output.parameters)} for output in request.outputs
        ],
        "placed": [(item.index, item.offset % 64, item.byte_size) for item in placed],
    }


def parameter_values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: [choice := value.WhichOneof("parameter_choice"), getattr(value, choice)]
        for name, value in sorted(parameters.items())
    }


def response_of(target: ServedVersion, request: Any) -> Any:
    return messages.ModelInferResponse(model_name=target.model, model_version=str(target.version), id=request.id)


def add_sub(gateway: FakeGateway, request_id: int, target: ServedVersion, request: Any, inputs: Any) -> None:
    left, right = (memoryview(inputs[name]).cast("i") for name in ("INPUT0", "INPUT1"))
    response = response_of(target, request)
    wanted = [output.name for output in request.outputs] or ["OUTPUT0", "OUTPUT1"]
    for name in wanted:
        sign = 1 if name == "OUTPUT0" else -1
        data = [a + sign * b for a, b in zip(left, right, strict=True)]
        response.outputs.add(name=name, datatype="INT32", shape=[1, 16])
        response.raw_output_contents.append(_int32(data))
    gateway.reply(request_id, InferReply(response.SerializeToString()))


def _int32(values: Sequence[int]) -> bytes:
    return b"".join(value.to_bytes(4, "little", signed=True) for value in values)


def echo(gateway: FakeGateway, request_id: int, target: ServedVersion, request: Any, inputs: Any) -> None:
    """Answer with the inputs, their bytes outside of the message, in memory that is overwritten at release."""
    response = response_of(target, request)
    regions = {output.name for output in request.outputs if "shared_memory_region" in output.parameters}
    memory: list[bytearray] = []
    for tensor in request.inputs:
        output = response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if tensor.name in regions:
            output.parameters["shared_memory_region"].string_param = "there"
            memory.append(bytearray())
        else:
            memory.append(bytearray(inputs[tensor.name]))
    for name, value in request.parameters.items():
        response.parameters[name].CopyFrom(value)
    gateway.count["unreleased"] += 1

    def release() -> None:
        gateway.count["unreleased"] -= 1
        for piece in memory:
            piece[:] = b"\xee" * len(piece)

    views = [memoryview(piece) for piece in memory]
    gateway.reply(request_id, InferReply(response.SerializeToString(), outputs=views, release=release))


def slow(gateway: FakeGateway, request_id: int, target: ServedVersion, request: Any, inputs: Any) -> None:
    """Leave it in flight."""


def failing(gateway: FakeGateway, request_id: int, target: ServedVersion, request: Any, inputs: Any) -> None:
    raise InvalidArgument("the model says 'no'")


def twice(gateway: FakeGateway, request_id: int, target: ServedVersion, request: Any, inputs: Any) -> None:
    response = response_of(target, request).SerializeToString()
    gateway.reply(request_id, InferReply(response, final=False))
    gateway.reply(request_id, InferReply(response))


def nothing(gateway: FakeGateway, request_id: int, target: ServedVersion, request: Any, inputs: Any) -> None:
    gateway.reply(request_id, InferReply(empty=True))


def decoupled(gateway: FakeGateway, request_id: int, target: ServedVersion, request: Any, inputs: Any) -> None:
    """OUTPUT0 counts; `fail_at`: that response is an error; `last`: the last response is the end."""
    values = {name: value.int64_param for name, value in request.parameters.items()}
    numbers = iter(range(values.get("count", 0)))

    def go_on() -> None:
        while gateway.has_room(request_id):
            number = next(numbers, None)
            if number is None:
                gateway.reply(request_id, InferReply(empty=True))
                return
            final = "last" in values and number == values["count"] - 1
            if number == values.get("fail_at"):
                gateway.reply(request_id, InferReply(error=InvalidArgument(f"error {number}"), final=final))
            else:
                response = response_of(target, request)
                response.outputs.add(name="OUTPUT0", datatype="INT32", shape=[1])
                response.raw_output_contents.append(_int32([number]))
                gateway.reply(request_id, InferReply(response.SerializeToString(), final=final))
        if not gateway.has_room(request_id):
            gateway.window_waits[request_id] = go_on

    go_on()


def inspect(gateway: FakeGateway, request_id: int, target: ServedVersion, request: Any, inputs: Any) -> None:
    account = gateway.account()
    account["requests"] -= 1
    account["in_flight"] -= 1
    text = json.dumps(account).encode()
    response = response_of(target, request)
    response.outputs.add(name="ACCOUNT", datatype="BYTES", shape=[1])
    response.raw_output_contents.append(len(text).to_bytes(4, "little") + text)
    gateway.reply(request_id, InferReply(response.SerializeToString()))


def protocols(gateway: FakeGateway, request_id: int, target: ServedVersion, request: Any, inputs: Any) -> None:
    gc.collect()
    response = response_of(target, request)
    response.outputs.add(name="OUTPUT0", datatype="INT32", shape=[1])
    count = sum(isinstance(item, asyncio.Protocol) for item in gc.get_objects())
    response.raw_output_contents.append(_int32([count]))
    gateway.reply(request_id, InferReply(response.SerializeToString()))


MODELS: dict[str, Model] = {
    "add_sub": add_sub,
    "slow": slow,
    "failing": failing,
    "twice": twice,
    "nothing": nothing,
    "inspect": inspect,
    "protocols": protocols,
    "decoupled": decoupled,
}


def snapshot(**settings: str) -> Any:
    """A server with the toy models, and two that are not ready."""
    made = messages.Snapshot(revision=1, hub_pid=1, started=True)
    for name in (*MODELS, "echo"):
        config = messages.ModelConfig(name=name, backend="python")
        if name == "decoupled":
            config.model_transaction_policy.decoupled = True
        if name == "echo":
            config.input.add(name="IN", data_type=11, dims=[-1])
            config.output.add(name="IN", data_type=11, dims=[-1])
        if name == "add_sub":
            config.max_batch_size = 8
            for index in range(2):
                config.input.add(name=f"INPUT{index}", data_type=8, dims=[16])
                config.output.add(name=f"OUTPUT{index}", data_type=8, dims=[16])
        model = made.models.add(name=name, wanted=True)
        for version in (1, 3) if name == "echo" else (1,):
            model.versions.add(
                model=name, version=version, state="READY", config=config.SerializeToString(), workers=[1]
            )
    loading = made.models.add(name="loading")
    loading.versions.add(model="loading", version=2, state="LOADING")
    for key, value in settings.items():
        made.settings[key.replace("_", "-")] = value
    return made


def refused(code: Code, message: str) -> Any:
    """The hub's answer to a control call that fails."""
    return messages.ControlResult(code=code + 1, message=message)


async def open_fake_gateway() -> FakeGateway:
    """What `App` calls to join the server."""
    return FakeGateway(snapshot())
