"""ModelStreamInfer: any number of requests and responses on one call, for models of every kind.

The rules are Triton's (stream_infer_handler.cc). Requests of ordinary models are answered in their order, so that a
quick one waits for a slow one before it; responses of decoupled models are sent as they come. A request that fails is
answered with a message that has `error_message`, and the stream goes on; with the metadata `triton_grpc_error: true`,
the first error that a model's run gives ends the stream with its status instead. The stream ends when the client sends
no more and the last request is over. When the client has gone, everything that is open is cancelled.

A client that sends faster than it is served, or does not read, is not read from any more until that has changed
(MAX_OPEN, and the engine's word on what is unsent); a decoupled model whose client does not read waits (`credit`).

Threads: messages come on the engine's thread, replies on the gateway's. One lock for each stream guards what is open
and the order of what is sent; engine and gateway are called with it held only to send, never the other way around.
"""

import logging
import threading
from collections import deque
from typing import Any

from tensorhub.errors import InternalError, TensorhubError
from tensorhub.frontend.catalog import parse_version
from tensorhub.frontend.port import GatewayPort, InferReply
from tensorhub.grpc.answering import status_details
from tensorhub.grpc.engine import MAX_MESSAGE_SIZE, UNAVAILABLE, UNSENT_LIMIT, Stream, StreamCall
from tensorhub.grpc.inference import PASSING_FAILED, too_large, traceparent
from tensorhub.grpc.requests import place, read_request
from tensorhub.grpc.rules import Deaf, Rules
from tensorhub.grpc.shared_memory import may_share, owner_of
from tensorhub.ipc.wire import CREDIT_STEP, FLAG_STREAM
from tensorhub.protocol import messages
from tensorhub.protocol.grpc_frames import FINAL_RESPONSE, stream_response
from tensorhub.protocol.sharing import check_outputs

log = logging.getLogger(__name__)

MAX_OPEN = 1_024
"""Requests of one stream that are not answered yet, or whose answers wait for those before them; the next one is read
when there are fewer. Each costs some kilobytes here and in a worker."""

STATUS_METADATA = ("triton_grpc_error", "true")
"""A client that sends this wants the first error as the stream's status."""

STOPPING_TEXT = "GRPC server is shutting down and has stopped accepting new requests."

_WANTS_EMPTY = "triton_enable_empty_final_response"
_StreamResponse = messages.message_class("inference.ModelStreamInferResponse")


class ModelStreamInfer:
    """The method."""

    def __init__(self, gateway: GatewayPort, rules: Rules) -> None:
        self._gateway = gateway
        self._rules = rules

    def __call__(self, call: StreamCall) -> Stream:
        try:
            owner = owner_of(call, self._gateway.catalog)
        except TensorhubError as error:
            call.finish(error.grpc_status, status_details(error.message))
            return Deaf()
        stream = InferStream(call, self._gateway, self._rules, owner)
        call.read()
        return stream


class _Request:
    """One request of a stream; the handler of its replies."""

    __slots__ = ("answers", "decoupled", "head", "over", "request_id", "stream", "uncredited", "wants_empty")

    def __init__(self, stream: "InferStream", head: Any) -> None:
        self.stream = stream
        self.head = head  # the ModelInferRequest
        self.decoupled = False
        self.wants_empty = False
        self.request_id = 0  # the gateway's; 0 before it has one
        self.answers: list[bytes] = []  # of an ordinary model's request, until it is its turn
        self.over = False  # the final answer has come
        self.uncredited = 0  # answers that the worker has got no credit for

    def on_reply(self, reply: InferReply) -> None:
        self.stream.replied(self, reply)


class InferStream:
    """See the module; implements `engine.Stream`."""

    def __init__(self, call: StreamCall, gateway: GatewayPort, rules: Rules, owner: str) -> None:
        self._call = call
        self._gateway = gateway
        self._rules = rules
        self._metadata = call.metadata
        self._errors_end_it = STATUS_METADATA in tuple(self._metadata)
        self._deadline_ns = call.deadline_ns
        self._owner = owner
        self._lock = threading.Lock()
        self._open: set[_Request] = set()
        self._in_order: deque[_Request] = deque()  # those of ordinary models, whose answers are still to be sent
        self._reading = True
        self._half_closed = False
        self._stopping = False
        self._ended = False  # the status has been sent, or the client has gone
        self._waiting_credit: set[_Request] = set()

    def __repr__(self) -> str:
        return f"<InferStream {len(self._open)} requests open>"

    # The engine's side

    def on_message(self, message: bytes) -> None:
        """See engine.Stream."""
        self._reading = False
        try:
            incoming = read_request(message)
        except TensorhubError as error:
            self._end(error)
            return
        head = incoming.head
        request = _Request(self, head)
        try:
            catalog = self._gateway.catalog
            target = catalog.find(head.model_name, parse_version(head.model_version))
            if catalog.guards_outputs:
                check_outputs(head, lambda: may_share(catalog, self._call.peer))
            request.decoupled = target.decoupled
            if request.decoupled and head.parameters:
                request.wants_empty = _WANTS_EMPTY in head.parameters and head.parameters[_WANTS_EMPTY].bool_param
            forwarded = self._rules.forwarded(lambda: self._metadata)
            body, placed = place(incoming, self._gateway)
            self._begin(request)
            request_id = self._gateway.infer(
                target,
                body + forwarded if forwarded else body,
                request.on_reply,
                flags=FLAG_STREAM,
                placed=placed,
                deadline_ns=self._deadline_ns,
                owner=self._owner,
                traceparent=traceparent(self._metadata) if self._gateway.tracing else "",
            )
        except TensorhubError as error:
            self._begin(request)
            self._answer(request, _error_message(request, error, bare=True), final=True)
        else:
            self._number(request, request_id)
        self._read_on()

    def _number(self, request: _Request, request_id: int) -> None:
        """Note the gateway's number of a request, and make up for what could not be done without it: the client may
        have gone meanwhile, and a whole window of answers may have come."""
        with self._lock:
            request.request_id = request_id
            ended = self._ended
        if ended:
            self._gateway.cancel(request_id)
        elif request.decoupled:
            self._credit(request)

    def on_half_close(self) -> None:
        """See engine.Stream."""
        with self._lock:
            self._half_closed = True
            self._finish_if_done()

    def on_gone(self) -> None:
        """See engine.Stream."""
        with self._lock:
            self._ended = True
            left = list(self._open)
            self._forget_all()
        self._cancel(left)

    def on_caught_up(self) -> None:
        """See engine.Stream."""
        with self._lock:
            waiting, self._waiting_credit = self._waiting_credit, set()
        for request in waiting:
            self._credit(request)
        self._read_on()

    def on_stopping(self) -> None:
        """See engine.Stream."""
        with self._lock:
            self._stopping = True
            self._finish_if_done()

    def _read_on(self) -> None:
        """Ask for the next message, if there may be one more and none is on its way."""
        with self._lock:
            if (
                self._reading
                or self._ended
                or self._half_closed
                or self._stopping
                or len(self._open) >= MAX_OPEN
                or len(self._in_order) >= MAX_OPEN
                or self._call.unsent > UNSENT_LIMIT
            ):
                return
            self._reading = True
        self._call.read()

    # The gateway's side

    def replied(self, request: _Request, reply: InferReply) -> None:
        """Take a reply of the gateway."""
        try:
            self._replied(request, reply)
        except Exception:
            log.exception("an answer could not be passed on")
            self._end(InternalError(PASSING_FAILED))
        finally:
            reply.release()

    def _replied(self, request: _Request, reply: InferReply) -> None:
        error = reply.error
        if error is not None and self._errors_end_it and not reply.refused:
            if reply.final:
                self._close(request)
            self._end(error)
            return
        self._answer(request, _message(request, reply), final=reply.final)
        if request.uncredited >= CREDIT_STEP:
            self._credit(request)
        self._read_on()

    def _credit(self, request: _Request) -> None:
        """Let the worker send more, unless the client is far behind."""
        with self._lock:
            if request.uncredited < CREDIT_STEP or not request.request_id:
                return
            if self._call.unsent > UNSENT_LIMIT:
                self._waiting_credit.add(request)
                return
            count, request.uncredited = request.uncredited, 0
        if not request.over:
            self._gateway.credit(request.request_id, count)

    # Both sides

    def _begin(self, request: _Request) -> None:
        """Note a request; does nothing the second time."""
        with self._lock:
            if request in self._open or self._ended:
                return
            self._open.add(request)
            if not request.decoupled:
                self._in_order.append(request)

    def _answer(self, request: _Request, message: bytes, *, final: bool) -> None:
        """Send a message, b"" for none, when it is its turn."""
        with self._lock:
            if self._ended:
                return
            request.over = final
            request.uncredited += not final
            if request.decoupled:
                if message:
                    self._call.send(message)
            else:
                if message:
                    request.answers.append(message)
                self._send_in_order()
            if final:
                self._open.discard(request)
                self._waiting_credit.discard(request)
                self._finish_if_done()

    def _send_in_order(self) -> None:
        in_order = self._in_order
        while in_order:
            first = in_order[0]
            for message in first.answers:
                self._call.send(message)
            first.answers.clear()
            if not first.over:
                return
            in_order.popleft()

    def _finish_if_done(self) -> None:
        if self._open or self._ended:
            return
        if self._half_closed:
            self._ended = True
            self._call.finish()
        elif self._stopping:
            self._ended = True
            self._call.finish(UNAVAILABLE, STOPPING_TEXT)

    def _close(self, request: _Request) -> None:
        with self._lock:
            request.over = True
            self._open.discard(request)

    def _end(self, error: TensorhubError) -> None:
        """End the stream with an error, and cancel what is open."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            left = list(self._open)
            self._forget_all()
            self._call.finish(error.grpc_status, status_details(error.message))
        self._cancel(left)

    def _forget_all(self) -> None:
        self._open.clear()
        self._in_order.clear()
        self._waiting_credit.clear()

    def _cancel(self, requests: list[_Request]) -> None:
        for request in requests:
            if request.request_id:
                self._gateway.cancel(request.request_id)


def _message(request: _Request, reply: InferReply) -> bytes:
    """Return the ModelStreamInferResponse of a reply; b"" for none."""
    if reply.error is not None:
        return _error_message(request, reply.error, bare=reply.refused, final=reply.final)
    if reply.empty:
        return _empty_message(request) if request.wants_empty else b""
    message = stream_response(reply.response, reply.outputs, final=reply.final)
    if len(message) > MAX_MESSAGE_SIZE:
        return _error_message(request, too_large(len(message)), final=reply.final)
    return message


def _error_message(request: _Request, error: TensorhubError, *, bare: bool = False, final: bool = True) -> bytes:
    """Args: bare: the request was refused before it got to the model: its id is all that comes with the error."""
    response = _StreamResponse(error_message=error.message)
    response.infer_response.id = request.head.id
    response.infer_response.SetInParent()
    if not bare:
        _copy_names(request, response, final)
    return bytes(response.SerializeToString())


def _empty_message(request: _Request) -> bytes:
    response = _StreamResponse()
    response.infer_response.id = request.head.id
    _copy_names(request, response, final=True)
    return bytes(response.SerializeToString())


def _copy_names(request: _Request, response: Any, final: bool) -> None:
    """A response that no model has written shows the names as the client gave them."""
    inner = response.infer_response
    inner.model_name, inner.model_version = request.head.model_name, request.head.model_version
    inner.parameters[FINAL_RESPONSE].bool_param = final
