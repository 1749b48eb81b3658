"""The short way of a small infer call: from the bytes of a connection to a worker and back, without ASGI between.

PERF: scope, events, a task and a future cost a small request more than everything else that this process does for it;
see docs/performance.md for the figures. The server's connection (`gunicorn_protocol`) offers each request that it has
whole. What is not plain is declined and goes through ASGI, where everything is possible; both ways share their code
and give the same answers.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from tensorhub.errors import TensorhubError
from tensorhub.frontend.port import GatewayPort, InferReply
from tensorhub.http.access import ClientMemory
from tensorhub.http.asgi import JSON_TYPE, Headers
from tensorhub.http.connection import Connection
from tensorhub.http.infer import Body, Chunks, find_target, json_size_of, reply_headers, send_request
from tensorhub.http.routes import infer_target
from tensorhub.http.waiting import SingleReply
from tensorhub.ipc.wire import FLAG_FROM_HTTP, FLAG_VERSION
from tensorhub.protocol import compression
from tensorhub.protocol.http_infer import JSON_PLAN, Limits, ResponsePlan, check_json_size, check_raw_size
from tensorhub.protocol.json_reply import encode_infer
from tensorhub.protocol.json_text import error_body
from tensorhub.protocol.known_calls import KnownReplies, KnownRequests
from tensorhub.protocol.sharing import wants_region
from tensorhub.restrictions import Category

MAX_REQUEST_SIZE = 60 * 1024
"""Bytes of head and body together. Larger ones belong into the arena while they arrive."""

Answer = Callable[[int, Headers, Chunks, Callable[[], None]], None]
"""Called once with status, headers (without the length), the body's pieces, and what to call when these are copied."""

Ends = Callable[[], Mapping[str, Any]]
"""Returns "client" and "server" of an ASGI scope: those ends of the connection that have an address."""

_NOT_PLAIN = frozenset((b"content-encoding", b"expect", b"transfer-encoding", b"upgrade", b"http2-settings"))


class DirectCall(SingleReply):
    """One request: at a worker, or done."""

    __slots__ = ("_answer", "_done", "_gateway", "_plan", "_replies", "_request_id")

    def __init__(self, gateway: GatewayPort, replies: KnownReplies, answer: Answer) -> None:
        super().__init__()
        self._gateway = gateway
        self._replies = replies
        self._answer = answer
        self._plan: ResponsePlan = JSON_PLAN
        self._request_id = 0
        self._done = False

    @property
    def done(self) -> bool:
        """See SingleReply."""
        return self._done

    def sent(self, request_id: int, plan: ResponsePlan) -> None:
        """Note how the request is called and how its answer is to be encoded."""
        self._request_id = request_id
        self._plan = plan

    def deliver(self, reply: InferReply) -> None:
        """See SingleReply."""
        self._done = True
        try:
            if reply.error is not None:
                raise reply.error
            if reply.outputs is None:
                json_size, chunks = self._replies.encode(self._plan, reply.response)
            else:
                json_size, chunks = encode_infer(self._plan, reply.response, reply.outputs)
        except TensorhubError as exc:
            reply.release()
            self.fail(exc)
        else:
            self._answer(200, reply_headers(json_size), chunks, reply.release)

    def fail(self, error: TensorhubError) -> None:
        """Answer with an error."""
        self._done = True
        self._answer(error.http_status, [JSON_TYPE], [error_body(error.message)], _nothing)

    def cancel(self) -> None:
        """The client has gone."""
        if not self._done:
            self._done = True
            self._gateway.cancel(self._request_id)
            self.abandon()


class DirectInfer:
    """Begins the calls of one process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._limits = Limits()
        self._requests = KnownRequests(self._limits)
        self._replies = KnownReplies()

    def begin(
        self,
        path: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        answer: Answer,
        ends: Ends = dict,
    ) -> DirectCall | None:
        """Begin to serve a POST request, or return None: ASGI has to.

        Args:
            path: as the client wrote it.
            headers: names in lower case.
            body: all of it, framed by Content-Length.
            answer: called with the answer, maybe before this returns, from the event loop.
            ends: of the connection.
        """
        names = infer_target(path)
        gateway = self._connection.gateway
        if names is None or gateway is None:
            return None
        catalog = gateway.catalog
        fields = dict(headers)
        call = DirectCall(gateway, self._replies, answer)
        try:
            catalog.check_serving()
            settings = self._connection.settings(catalog.settings)
            if settings.forward is not None or settings.divided or gateway.tracing or not is_plain(fields):
                return None
            if settings.restrictions.denial(Category.INFERENCE, headers) is not None:
                return None
            target = find_target(catalog, *names)
            json_size = json_size_of(fields, len(body))
            (check_json_size if json_size else check_raw_size)(json_size or len(body), settings.limits)
            if settings.limits is not self._limits:
                self._limits = settings.limits
                self._requests = KnownRequests(self._limits)
            known = self._requests.find(target.model, body, json_size)
            named = names[1] != ""
            if known is not None:
                message, plan = known
                flags = FLAG_FROM_HTTP | FLAG_VERSION if named else FLAG_FROM_HTTP
                call.sent(gateway.infer(target, message, call.on_reply, flags=flags), plan)
            else:
                may_share: Callable[[], bool] | None = None
                if settings.guards_outputs:
                    may_share = partial(_may_share, settings.client_memory, ends, headers)
                request_id, decoded = send_request(
                    gateway,
                    settings,
                    target,
                    fields,
                    Body(body, json_size),
                    call.on_reply,
                    may_share=may_share,
                    named=named,
                )
                call.sent(request_id, decoded.plan)
                if may_share is None or not wants_region(decoded.request):  # another client may not have what this may
                    self._requests.learn(target.model, body, json_size, decoded)
        except TensorhubError as exc:
            call.fail(exc)
        return call


def is_plain(fields: dict[bytes, bytes]) -> bool:
    """Nothing but a JSON or binary body is asked for and given."""
    if not _NOT_PLAIN.isdisjoint(fields):
        return False
    accepted = fields.get(b"accept-encoding")
    return accepted is None or compression.response_encoding(accepted.decode("latin-1")) == compression.IDENTITY


def _may_share(client_memory: ClientMemory, ends: Ends, headers: Sequence[tuple[bytes, bytes]]) -> bool:
    return client_memory.allows({**ends(), "headers": headers})


def _nothing() -> None:
    """The answer's memory is its own."""
