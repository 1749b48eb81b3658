"""A gateway without a server behind it: it keeps the contract of `frontend.port.GatewayPort` and runs models itself.

Models: `add_sub` (two INT32 inputs), `identity` (outputs are the inputs), `stream` (decoupled), `old` (two versions,
the second not ready). Request parameters tell what to do: see `_Request`.
"""

import heapq
import itertools
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tensorhub.errors import Code, TensorhubError, Unavailable, error_for
from tensorhub.frontend.catalog import Catalog, ServedVersion
from tensorhub.frontend.port import InferReply, OnControl, OnReply, PlacedInput
from tensorhub.ipc.wire import FLAG_STREAM, STREAM_WINDOW
from tensorhub.protocol import messages
from tests.waiting import wait_until


def _config(name: str, outputs: Sequence[str], inputs: Sequence[str], decoupled: bool = False) -> bytes:
    config = messages.ModelConfig(name=name, backend="python", max_batch_size=8)
    for tensor in inputs:
        config.input.add(name=tensor, data_type="TYPE_INT32", dims=[16])
    for tensor in outputs:
        config.output.add(name=tensor, data_type="TYPE_INT32", dims=[16])
    config.model_transaction_policy.decoupled = decoupled
    return bytes(config.SerializeToString())


def snapshot(settings: Mapping[str, str]) -> Any:
    """Return the state of a server with the models of the module and no region."""
    state = messages.Snapshot(revision=1, hub_pid=1, started=True, settings=settings)
    pair = (("OUTPUT0", "OUTPUT1"), ("INPUT0", "INPUT1"))
    for name, config in (
        ("add_sub", _config("add_sub", *pair)),
        ("identity", _config("identity", *pair)),
        ("old", _config("old", *pair)),
        ("stream", _config("stream", *pair, decoupled=True)),
    ):
        model = state.models.add(name=name, wanted=True, known=True)
        model.versions.add(model=name, version=1, state="READY", config=config, workers=[1], load_id=1)
    for model in state.models:
        if model.name == "old":
            model.versions.add(model="old", version=2, state="UNAVAILABLE", reason="unloaded")
    return state


class FakeReservation:
    """A piece of ordinary memory."""

    def __init__(self, gateway: "FakeGateway", byte_size: int) -> None:
        self._gateway = gateway
        self.view = memoryview(bytearray(byte_size))
        self._free = False

    def free(self) -> None:
        if not self._free:
            self._free = True
            self._gateway.reserved -= 1


class FakeGateway:
    """See the module.

    Attributes:
        immediate: answer inside `infer`, and do nothing but add_sub: for measuring what is around it.
        reserved, unreleased: pieces of memory that are taken: of requests, and of responses.
        taken: how many requests were given to a model.
        placed: how many inputs came in reserved memory. cancelled: the numbers of cancelled requests.
        produced: responses of decoupled requests. last_request, last_deadline_ns: of the newest request.
        operations: what the hub was asked for.
        on_control: answers control operations; by default everything succeeds.
    """

    tracing = False

    def __init__(self, settings: Mapping[str, str] | None = None, immediate: bool = False) -> None:
        self.immediate = immediate
        self.state = snapshot(settings or {})
        self.catalog = Catalog(self.state)
        self.arena_full = False
        self.reserved = 0
        self.unreleased = 0
        self.taken = 0
        self.placed = 0
        self.cancelled: list[int] = []
        self.last_deadline_ns = 0
        self.observers: list[Callable[[], None]] = []
        self.last_request: Any = None
        self.produced = 0
        self.operations: list[Any] = []
        self.on_control: Callable[[Any], Any] = lambda operation: messages.ControlResult()
        self.closed = False
        self._numbers = itertools.count(1)
        self._waiting: dict[int, OnReply | None] = {}
        self._emissions: dict[int, _Emission] = {}
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._answer, name="fake-replies", daemon=True)
        self._thread.start()

    @property
    def in_flight(self) -> int:
        """Requests that have been neither answered nor cancelled."""
        return sum(on_reply is not None for on_reply in list(self._waiting.values()))

    def publish(self) -> None:
        """Make a catalog of `state`."""
        self.catalog = Catalog(self.state)
        for on_change in list(self.observers):
            on_change()

    def observe(self, on_change: Callable[[], None]) -> None:
        self.observers.append(on_change)

    def forget(self, on_change: Callable[[], None]) -> None:
        if on_change in self.observers:
            self.observers.remove(on_change)

    def disconnect(self) -> None:
        """Be as before any hub has answered."""
        self.catalog = Catalog()

    def reserve(self, byte_size: int) -> FakeReservation:
        if self.arena_full:
            raise Unavailable("the arena is full")
        self.reserved += 1
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
        request_id = next(self._numbers)
        if self.immediate:
            on_reply(InferReply(_add_sub_response(messages.ModelInferRequest.FromString(body))))
            return request_id
        self.last_deadline_ns = deadline_ns
        self.placed += len(placed)
        self.last_request = messages.ModelInferRequest.FromString(body)
        request = _Request(target, self.last_request, placed, flags)
        if request.parameter("refuse") or request.parameter("bug"):
            for item in placed:
                item.reservation.free()
            raise RuntimeError("secret") if request.parameter("bug") else Unavailable("Exceeds maximum queue size")
        self.taken += 1
        self._waiting[request_id] = on_reply
        if not request.parameter("never"):
            self._later(request.parameter("delay_ms") / 1000, lambda: self._finish(request_id, request))
        if request.parameter("late"):
            wait_until(lambda: self.produced == STREAM_WINDOW)
        return request_id

    def cancel(self, request_id: int) -> None:
        if self._waiting.pop(request_id, None) is not None:
            self.cancelled.append(request_id)

    def credit(self, request_id: int, count: int) -> None:
        self._later(0, lambda: self._emit(request_id, count))

    def control(self, operation: Any, on_result: OnControl) -> None:
        self.operations.append(operation)
        answer = self.on_control(operation)
        if isinstance(answer, TensorhubError):
            self._later(0, lambda: on_result(None, answer))
        else:
            self._later(0, lambda: on_result(answer, None))

    fd = None

    def hold(self) -> None:
        """Its answers come on threads of their own: there is no turn to take."""

    def release(self) -> None:
        """See `hold`."""

    def send(self) -> None:
        """See `hold`."""

    def read(self) -> None:
        """See `hold`."""

    def close(self) -> None:
        self.closed = True
        with self._changed:
            self._changed.notify()
        self._thread.join()

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + delay_s, next(self._numbers), call))
            self._changed.notify()

    def _answer(self) -> None:
        while not self.closed:
            with self._changed:
                wait_s = self._due[0][0] - time.monotonic() if self._due else None
                if wait_s is None or wait_s > 0:
                    self._changed.wait(wait_s)
                    continue
                call = heapq.heappop(self._due)[2]
            call()
            del call

    def _emit(self, request_id: int, count: int) -> None:
        emission = self._emissions.get(request_id)
        if emission is None:
            return
        emission.free += count
        while emission.free > 0:
            reply = next(emission.replies)
            on_reply = self._waiting.get(request_id)
            if on_reply is None or reply.final:
                del self._emissions[request_id]
                self._waiting.pop(request_id, None)
            if on_reply is not None:
                self.produced += not reply.empty
                on_reply(reply)
            if on_reply is None or reply.final:
                return
            emission.free -= 1

    def _finish(self, request_id: int, request: "_Request") -> None:
        if request.target.decoupled:
            assert request.flags & FLAG_STREAM
            request.free()
            self._emissions[request_id] = _Emission(request.emit())
            self._emit(request_id, STREAM_WINDOW)
            return
        on_reply = self._waiting.pop(request_id, None)
        replies = request.run(self) if on_reply is not None else []
        request.free()
        for reply in replies:
            assert on_reply is not None
            on_reply(reply)


class _Emission:
    """What a decoupled request has still to answer, and how far it may go."""

    def __init__(self, replies: Iterator[InferReply]) -> None:
        self.replies = replies
        self.free = 0


class _Request:
    """One request to run. Its parameters (int64): delay_ms, never, refuse, bug (of the gateway itself); fail (a Code),
    refused (the failure is not the model's), apart (outputs apart from the response), extra (a reply before the last),
    empty (only the end), garbled (an answer that cannot be passed on).

    Of the decoupled model: count (of responses), errors (the last ones of them fail), last (the last response is the
    end, in place of an empty one), late (`infer` returns when the whole window has been sent)."""

    def __init__(self, target: ServedVersion, message: Any, placed: Sequence[PlacedInput], flags: int) -> None:
        self.target = target
        self.message = message
        self.flags = flags
        self._placed = placed

    def parameter(self, name: str) -> int:
        return int(self.message.parameters[name].int64_param) if name in self.message.parameters else 0

    def run(self, gateway: FakeGateway) -> list[InferReply]:
        """Return the replies."""
        if "fail" in self.message.parameters:
            text = self.message.parameters["text"].string_param if "text" in self.message.parameters else "no"
            refused = bool(self.parameter("refused"))
            return [InferReply(error=error_for(self.parameter("fail"), text), refused=refused)]
        if self.parameter("empty"):
            return [InferReply(empty=True)]
        if self.parameter("garbled"):
            gateway.unreleased += 1
            return [InferReply(b"", [None], release=lambda: _release(gateway))]  # type: ignore[list-item]
        inputs = self.inputs()
        outputs = inputs if self.target.model == "identity" else list(_add_sub(*inputs))
        response = messages.ModelInferResponse(
            model_name=self.target.model, model_version=str(self.target.version), id=self.message.id
        )
        for index, data in enumerate(outputs):
            response.outputs.add(name=f"OUTPUT{index}", datatype="INT32", shape=[len(data) // 4])
        if self.parameter("apart"):
            gateway.unreleased += 1
            views = [memoryview(bytearray(data)) for data in outputs]
            last = InferReply(response.SerializeToString(), views, release=lambda: _release(gateway))
        else:
            response.raw_output_contents.extend(outputs)
            last = InferReply(response.SerializeToString())
        return [InferReply(b"", final=False), last] if self.parameter("extra") else [last]

    def emit(self) -> Iterator[InferReply]:
        """Yield the replies of the decoupled model: OUTPUT0 counts from 0."""
        count = self.parameter("count")
        for index in range(count):
            final = bool(self.parameter("last")) and index == count - 1
            if index >= count - self.parameter("errors"):
                yield InferReply(error=error_for(1, f"error {index}"), final=final)
                continue
            response = messages.ModelInferResponse(model_name="stream", model_version="1", id=self.message.id)
            response.outputs.add(name="OUTPUT0", datatype="INT32", shape=[1])
            response.raw_output_contents.append(array("i", [index]).tobytes())
            yield InferReply(response.SerializeToString(), final=final)
        if not (count and self.parameter("last")):
            yield InferReply(empty=True)

    def inputs(self) -> list[bytes]:
        """Return the data of the inputs, as a worker finds it."""
        placed = {item.index: item for item in self._placed}
        raw = iter(self.message.raw_input_contents)
        found = []
        for index, tensor in enumerate(self.message.inputs):
            if index in placed:
                item = placed[index]
                assert item.offset % 64 == 0
                found.append(bytes(item.reservation.view[item.offset : item.offset + item.byte_size]))
            elif "shared_memory_region" in tensor.parameters:
                found.append(b"region")
            else:
                found.append(next(raw))
        assert next(raw, None) is None or self.parameter("surplus")
        return found

    def free(self) -> None:
        for item in self._placed:
            item.reservation.free()


def _release(gateway: FakeGateway) -> None:
    gateway.unreleased -= 1


def _add_sub(first: bytes, second: bytes) -> tuple[bytes, bytes]:
    left, right = array("i", first), array("i", second)
    return (
        array("i", [a + b for a, b in zip(left, right, strict=True)]).tobytes(),
        array("i", [a - b for a, b in zip(left, right, strict=True)]).tobytes(),
    )


_ADD_SUB_HEAD = messages.ModelInferResponse(model_name="add_sub", model_version="1")
for _name in ("OUTPUT0", "OUTPUT1"):
    _ADD_SUB_HEAD.outputs.add(name=_name, datatype="INT32", shape=[1, 16])
_ADD_SUB_HEAD.raw_output_contents.extend((bytes(64), bytes(64)))
_ADD_SUB_BYTES = bytes(_ADD_SUB_HEAD.SerializeToString())


def _add_sub_response(request: Any) -> bytes:
    """A response of the right size at once; what a worker would compute is not what is measured."""
    return _ADD_SUB_BYTES


def control_error(code: Code, message: str) -> Any:
    """Return the ControlResult of a failure."""
    return messages.ControlResult(code=code + 1, message=message)
