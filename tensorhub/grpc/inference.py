"""ModelInfer: a client's bytes go to a worker as they are, and a worker's bytes to the client.

Of a small request only the model's name and version are of interest here. The large tensors of a large one are copied
once, from the message into this process's arena, and taken out of the message.
"""

import logging
from typing import Any

from tensorhub.errors import InternalError, InvalidArgument, TensorhubError, Unsupported
from tensorhub.frontend.catalog import ServedVersion, parse_version
from tensorhub.frontend.port import ALIGNMENT, INLINE_LIMIT, GatewayPort, InferReply, PlacedInput
from tensorhub.grpc.answering import UNPARSABLE, parse, refuse
from tensorhub.grpc.engine import INTERNAL, MAX_MESSAGE_SIZE, Call
from tensorhub.ipc.wire import MAX_FRAME_SIZE
from tensorhub.protocol import messages
from tensorhub.protocol.grpc_frames import FrameError, join_request, response_pieces, split_request

log = logging.getLogger(__name__)

MAX_BODY_SIZE = MAX_FRAME_SIZE - (1 << 20)
"""Bytes of a request that are not raw contents in an arena; the rest of a frame is for what goes with them."""

DECOUPLED_TEXT = "ModelInfer RPC doesn't support models with decoupled transaction policy"

_ModelInferRequest = messages.ModelInferRequest
_REGION = "shared_memory_region"


class ModelInfer:
    """The method."""

    def __init__(self, gateway: GatewayPort) -> None:
        self._gateway = gateway

    def __call__(self, call: Call, message: bytes) -> None:
        waiting = _Waiting(call, self._gateway)
        try:
            if len(message) <= INLINE_LIMIT:
                target = self._find(parse(_ModelInferRequest, message))
                waiting.send(target, message, ())
            else:
                self._send_large(waiting, message)
        except TensorhubError as error:
            refuse(call, error)

    def _find(self, request: Any) -> ServedVersion:
        version = parse_version(request.model_version)
        target = self._gateway.catalog.find(request.model_name, version)
        if target.decoupled:
            raise Unsupported(DECOUPLED_TEXT)
        return target

    def _send_large(self, waiting: "_Waiting", message: bytes) -> None:
        try:
            others, raw_inputs = split_request(message)
        except FrameError as exc:
            raise InternalError(UNPARSABLE) from exc
        request = parse(_ModelInferRequest, b"".join(others))
        target = self._find(request)
        large = {index: data for index, data in enumerate(raw_inputs) if len(data) > INLINE_LIMIT}
        if not large:
            waiting.send(target, _checked(message), ())
            return
        small = [data for data in raw_inputs if len(data) <= INLINE_LIMIT]
        body = _checked(join_request(others, small))
        waiting.send(target, body, self._place(request, large))

    def _place(self, request: Any, large: dict[int, memoryview]) -> list[PlacedInput]:
        """Copy the large raw contents into the arena.

        Args:
            large: by their position in raw_input_contents, which has an entry for each input that is in no region.
        """
        without_region = (index for index, tensor in enumerate(request.inputs) if _REGION not in tensor.parameters)
        # Entries beyond the inputs are ignored, as in Triton.
        places = [(index, large[raw]) for raw, index in enumerate(without_region) if raw in large]
        offsets = []
        total = 0
        for _, data in places:
            offsets.append(total)
            total += -(-len(data) // ALIGNMENT) * ALIGNMENT
        if not places:
            return []
        reservation = self._gateway.reserve(total)
        view = reservation.view
        for (_, data), offset in zip(places, offsets, strict=True):
            view[offset : offset + len(data)] = data
        return [
            PlacedInput(index, reservation, offset, len(data))
            for (index, data), offset in zip(places, offsets, strict=True)
        ]


def _checked(body: bytes) -> bytes:
    if len(body) > MAX_BODY_SIZE:
        raise InvalidArgument(
            f"the request has {len(body)} bytes beside large entries of raw_input_contents; allowed are "
            f"{MAX_BODY_SIZE}. Send large tensors in raw_input_contents or through shared memory"
        )
    return body


class _Waiting:
    """A call that waits for a worker."""

    __slots__ = ("_call", "_extra", "_gateway", "_gone", "_request_id")

    def __init__(self, call: Call, gateway: GatewayPort) -> None:
        self._call = call
        self._gateway = gateway
        self._request_id = 0
        self._gone = False
        self._extra = 0

    def send(self, target: ServedVersion, body: bytes, placed: list[PlacedInput] | tuple[()]) -> None:
        """Pass the request on, and have the answer come to `_on_reply`.

        Raises:
            Unavailable: no worker takes it.
        """
        call = self._call
        call.watch(self._on_gone)
        self._request_id = self._gateway.infer(
            target, body, self._on_reply, placed=placed, deadline_ns=call.deadline_ns
        )
        if self._gone:
            # The client went while the request was on its way, before there was a number to cancel.
            self._gateway.cancel(self._request_id)

    def _on_gone(self) -> None:
        self._gone = True
        if self._request_id:
            self._gateway.cancel(self._request_id)

    def _on_reply(self, reply: InferReply) -> None:
        try:
            self._answer(reply)
        except Exception:
            log.exception("an answer could not be passed on")
            self._call.fail(INTERNAL, "the server failed to pass the answer on; its log has the reason")
        finally:
            reply.release()

    def _answer(self, reply: InferReply) -> None:
        if reply.error is not None:
            refuse(self._call, reply.error)
        elif not reply.final:
            self._extra += 1
        elif reply.empty or self._extra:
            count = self._extra + (not reply.empty)
            refuse(self._call, InternalError(f"expected a single response, got {count}"))
        elif reply.outputs is None:
            self._call.reply(reply.response)
        else:
            pieces = response_pieces(reply.response, reply.outputs)
            size = sum(map(len, pieces))
            if size > MAX_MESSAGE_SIZE:
                refuse(
                    self._call,
                    InvalidArgument(
                        f"Response has byte size {size} which exceeds gRPC's byte size limit {MAX_MESSAGE_SIZE}."
                    ),
                )
            else:
                self._call.reply(b"".join(pieces))
