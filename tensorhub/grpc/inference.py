"""ModelInfer: a client's bytes go to a worker as they are, and a worker's bytes to the client."""

import logging
from collections.abc import Sequence
from typing import Any

from tensorhub.errors import InternalError, InvalidArgument, TensorhubError, Unsupported
from tensorhub.frontend.catalog import Catalog, ServedVersion, parse_version
from tensorhub.frontend.port import INLINE_LIMIT, GatewayPort, InferReply, PlacedInput
from tensorhub.grpc.answering import refuse
from tensorhub.grpc.engine import INTERNAL, MAX_MESSAGE_SIZE, Call, Metadata
from tensorhub.grpc.requests import Incoming, place, read_request
from tensorhub.grpc.rules import Rules
from tensorhub.grpc.shared_memory import may_share, owner_of
from tensorhub.protocol.grpc_frames import RAW_INPUT_CONTENTS, response_pieces
from tensorhub.protocol.layouts import LayoutTable
from tensorhub.protocol.sharing import check_outputs

log = logging.getLogger(__name__)

DECOUPLED_TEXT = "ModelInfer RPC doesn't support models with decoupled transaction policy"

PASSING_FAILED = "the server failed to pass the answer on; its log has the reason"


class ModelInfer:
    """The method.

    Of a small request only its model matters here, and clients send the same one again and again: what has come before
    is recognised (see `layouts`). PERF: 5 % of the process's CPU time.
    """

    def __init__(self, gateway: GatewayPort, rules: Rules) -> None:
        self._gateway = gateway
        self._rules = rules
        self._known: tuple[Catalog | None, LayoutTable[ServedVersion]] = (None, LayoutTable(RAW_INPUT_CONTENTS))

    def __call__(self, call: Call, message: bytes) -> None:
        gateway = self._gateway
        catalog = gateway.catalog
        try:
            body: bytes = message
            placed: Sequence[PlacedInput] = ()
            incoming: Incoming | None = None
            layout = self._known_to(catalog).find(message)
            target = layout.meaning if layout is not None else None
            if target is None:
                target, incoming = self._read(call, message, catalog)
            owner = owner_of(call, catalog)
            forwarded = self._rules.forwarded(lambda: call.metadata)
            # Last: what is placed belongs to the gateway, and nothing may go wrong before that has it.
            if incoming is not None:
                body, placed = place(incoming, gateway)
            _Waiting(call, gateway).send(target, body + forwarded if forwarded else body, placed, owner)
        except TensorhubError as error:
            refuse(call, error)

    def _known_to(self, catalog: Catalog) -> LayoutTable[ServedVersion]:
        """Return what has been recognised as long as this catalog has been there: the next may have other models."""
        known_to, known = self._known
        if known_to is not catalog:
            known = LayoutTable(RAW_INPUT_CONTENTS)
            self._known = (catalog, known)
        return known

    def _read(self, call: Call, message: bytes, catalog: Catalog) -> tuple[ServedVersion, Incoming]:
        """Return who serves a request, and what it is.

        Raises:
            TensorhubError: the request can not be passed on; see `read_request` and `Catalog.find`.
        """
        incoming = read_request(message)
        head = incoming.head
        target = catalog.find(head.model_name, parse_version(head.model_version))
        if target.decoupled:
            raise Unsupported(DECOUPLED_TEXT)
        if catalog.guards_outputs:
            check_outputs(head, lambda: may_share(catalog, call.peer))
        if len(message) <= INLINE_LIMIT and _comes_again(head):
            self._known_to(catalog).learn(message, [len(data) for data in head.raw_input_contents], target)
        return target, incoming


def _comes_again(head: Any) -> bool:
    """Whether requests like this one are likely, and what is checked of it does not depend on who sends it."""
    return not head.id and not head.parameters and not any(output.parameters for output in head.outputs)


def too_large(size: int) -> InvalidArgument:
    """Return the error for a response that gRPC cannot carry."""
    return InvalidArgument(f"Response has byte size {size} which exceeds gRPC's byte size limit {MAX_MESSAGE_SIZE}.")


def traceparent(metadata: Metadata) -> str:
    """Return the metadata by which a client that traces its requests says so; "" if there is none."""
    return next((value for key, value in metadata if key == "traceparent" and isinstance(value, str)), "")


class _Waiting:
    """A call that waits for a worker."""

    __slots__ = ("_call", "_early", "_gateway", "_gone", "_request_id")

    def __init__(self, call: Call, gateway: GatewayPort) -> None:
        self._call = call
        self._gateway = gateway
        self._request_id = 0
        self._gone = False
        self._early: list[bytes | TensorhubError] = []  # answers before the last

    def send(self, target: ServedVersion, body: bytes, placed: Sequence[PlacedInput], owner: str) -> None:
        """Pass the request on, and have the answer come to `_on_reply`.

        Raises:
            Unavailable: no worker takes it.
        """
        call = self._call
        call.watch(self._on_gone)
        self._request_id = self._gateway.infer(
            target,
            body,
            self._on_reply,
            placed=placed,
            deadline_ns=call.deadline_ns,
            owner=owner,
            traceparent=traceparent(call.metadata) if self._gateway.tracing else "",
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
            self._call.fail(INTERNAL, PASSING_FAILED)
        finally:
            reply.release()

    def _answer(self, reply: InferReply) -> None:
        if reply.final and not reply.empty and not self._early:
            self._send(_result(reply))
            return
        # A model may send its one response first, and its end later.
        if not reply.empty:
            self._early.append(_result(reply))
        if not reply.final:
            return
        if len(self._early) == 1:
            self._send(self._early[0])
        else:
            refuse(self._call, InternalError(f"expected a single response, got {len(self._early)}"))

    def _send(self, result: bytes | TensorhubError) -> None:
        if isinstance(result, bytes):
            self._call.reply(result)
        else:
            refuse(self._call, result)


def _result(reply: InferReply) -> bytes | TensorhubError:
    """Return the serialised response of a reply that is not empty, or its error; nothing of it is needed any more."""
    if reply.error is not None:
        return reply.error
    if reply.outputs is None:
        return reply.response
    pieces = response_pieces(reply.response, reply.outputs)
    size = sum(map(len, pieces))
    return b"".join(pieces) if size <= MAX_MESSAGE_SIZE else too_large(size)
