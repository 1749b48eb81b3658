"""The generate extension over HTTP: `generate` answers with one JSON object, `generate_stream` with server-sent events.

Headers are not forwarded, as in Triton.

Order of the checks: restricted API, method, content encoding, model, body. What fails before a worker has taken the
request is an ordinary JSON error. After that the first answer decides about the status, as in Triton: 200, or 400 if it
is an error; later errors are events like the others.

A client that has gone is noticed at once, and its request is cancelled. One that reads slowly is waited for: its model
gets credit (see `frontend.port`) as the server takes the events off our hands.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from http import HTTPStatus

from tensorhub.errors import InvalidArgument, TensorhubError, Unavailable
from tensorhub.frontend.catalog import ServedVersion, parse_version
from tensorhub.frontend.port import GatewayPort, InferReply, PlacedInput
from tensorhub.http.admission import Refused, admit
from tensorhub.http.asgi import JSON_TYPE, Disconnected, Receive, Scope, Send, send_body
from tensorhub.http.body import BodyReader
from tensorhub.http.connection import Connection
from tensorhub.http.infer import place_large, traceparent
from tensorhub.http.settings import HttpSettings
from tensorhub.ipc.wire import CREDIT_STEP, FLAG_FROM_HTTP, FLAG_PLAIN_PARAMETERS, FLAG_STREAM, FLAG_VERSION
from tensorhub.protocol.generate import NOT_ONE_RESPONSE, decode_generate, encode_generate, event
from tensorhub.protocol.http_infer import check_json_size
from tensorhub.protocol.json_text import error_body

_EVENTS_TYPE = (b"content-type", b"text/event-stream; charset=utf-8")
_FLAGS = FLAG_FROM_HTTP | FLAG_STREAM | FLAG_PLAIN_PARAMETERS
_ONLY_IDENTITY = "Unsupported content-encoding, only 'identity' is supported."

_Answer = tuple[HTTPStatus, bytes]
"""The status that an answer gives if it is the first, and its JSON."""


class GenerateEndpoint:
    """Serves `POST /v2/models/<model>[/versions/<version>]/generate` and `.../generate_stream`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def serve(self, scope: Scope, receive: Receive, send: Send, model: str, version: str, streamed: bool) -> None:
        """Answer one request, whatever happens; and nothing if the client has gone."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        reader = BodyReader(receive, held_back=b"expect" in headers, announced=b"content-length" in headers)
        try:
            try:
                gateway, catalog, settings = await admit(self._connection, scope)
                if headers.get(b"content-encoding", b"identity") not in (b"identity", b""):
                    raise InvalidArgument(_ONLY_IDENTITY)
                target = catalog.find(model, parse_version(version))
                body = await reader.gather(settings.limits.max_input_size)
                check_json_size(reader.received, settings.limits)
                replies = _Replies()
                request_id = _start(
                    gateway, settings, target, headers, body, replies, _FLAGS | FLAG_VERSION if version else _FLAGS
                )
                listener = asyncio.create_task(replies.listen(receive))
                conversation = _Conversation(gateway, request_id, replies, listener)
                try:
                    await (conversation.stream(send) if streamed else conversation.one(send))
                except BaseException:
                    gateway.cancel(request_id)
                    raise
                finally:
                    listener.cancel()
                    replies.close()
            except TensorhubError as exc:
                await reader.drain()
                await send_body(send, exc.http_status, [JSON_TYPE], error_body(exc.message))
            except Refused as exc:
                await reader.drain()
                await send_body(send, exc.status, [JSON_TYPE, *exc.headers], error_body(exc.message))
        except Disconnected:
            await reader.tell_if_incomplete(send)


def _start(
    gateway: GatewayPort,
    settings: HttpSettings,
    target: ServedVersion,
    headers: Mapping[bytes, bytes],
    body: bytes,
    replies: "_Replies",
    flags: int,
) -> int:
    """Decode the body and send it to a worker; return the request's number."""
    request, large = decode_generate(body, target, settings.limits)
    placed: list[PlacedInput] = []
    try:
        place_large(large, gateway, placed)
        message = request.SerializeToString()
    except BaseException:
        for item in placed:
            item.reservation.free()
        raise
    context = traceparent(headers) if gateway.tracing else ""
    return gateway.infer(target, message, replies.on_reply, flags=flags, placed=placed, traceparent=context)


class _Replies:
    """The replies to one request, in their order, for one reader."""

    __slots__ = ("_closed", "_gone", "_queue", "_wake")

    def __init__(self) -> None:
        self._queue: deque[InferReply] = deque()
        self._wake = asyncio.Event()
        self._gone = False
        self._closed = False

    def on_reply(self, reply: InferReply) -> None:
        """Take a reply of the gateway."""
        if self._closed:
            reply.release()
            return
        self._queue.append(reply)
        self._wake.set()

    async def listen(self, receive: Receive) -> None:
        """Wait for the client's end."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._wake.set()

    async def next(self) -> list[InferReply]:
        """Return what has come, at least one reply; the caller releases them.

        Raises:
            Disconnected: the client has gone.
        """
        while not self._queue and not self._gone:
            self._wake.clear()
            await self._wake.wait()
        if self._gone:
            raise Disconnected
        found = list(self._queue)
        self._queue.clear()
        return found

    def close(self) -> None:
        """Let go of what nobody has read, now and later."""
        self._closed = True
        while self._queue:
            self._queue.popleft().release()


class _Conversation:
    """A request that a worker has been sent."""

    def __init__(
        self, gateway: GatewayPort, request_id: int, replies: _Replies, listener: "asyncio.Task[None]"
    ) -> None:
        self._gateway = gateway
        self._request_id = request_id
        self._replies = replies
        self._listener = listener
        self._taken = 0  # answers that the worker has got no credit for

    async def one(self, send: Send) -> None:
        """Answer with the one response of the model."""
        answers: list[_Answer] = []
        count = 0
        final = False
        while not final:
            for reply in await self._replies.next():
                count += not reply.empty
                answer = _answer(reply)
                if answer is not None and not answers:
                    answers.append(answer)
                final = reply.final
                self._took(reply)
            self._give_credit()
        self._listener.cancel()
        status, body = answers[0] if answers else (HTTPStatus.OK, b"")
        await send_body(send, status, [JSON_TYPE], body if count == 1 else error_body(NOT_ONE_RESPONSE))

    async def stream(self, send: Send) -> None:
        """Answer with an event for each response."""
        begun = final = False
        while not final:
            answers: list[_Answer] = []
            for reply in await self._replies.next():
                answer = _answer(reply)
                if answer is not None:
                    answers.append(answer)
                final = reply.final
                self._took(reply)
            if not begun:
                begun = True
                status = answers[0][0] if answers else HTTPStatus.OK
                await send({"type": "http.response.start", "status": status, "headers": [_EVENTS_TYPE]})
            if final:
                self._listener.cancel()
            events = b"".join([event(body) for _, body in answers])
            await send({"type": "http.response.body", "body": events, "more_body": not final})
            self._give_credit()

    def _took(self, reply: InferReply) -> None:
        self._taken += not reply.final

    def _give_credit(self) -> None:
        if self._taken >= CREDIT_STEP:
            count, self._taken = self._taken, 0
            self._gateway.credit(self._request_id, count)


def _answer(reply: InferReply) -> _Answer | None:
    """Return what a reply says, None for nothing; its memory is given back.

    Raises:
        TensorhubError: the worker did not take the request.
    """
    try:
        if reply.error is not None:
            raise reply.error
        return None if reply.empty else (HTTPStatus.OK, encode_generate(reply.response, reply.outputs))
    except TensorhubError as exc:
        if reply.refused:
            raise
        # A model's errors are all Bad Request, as in Triton 2.51; a worker that has died is worth another try.
        unavailable = isinstance(exc, Unavailable)
        status = HTTPStatus.SERVICE_UNAVAILABLE if unavailable else HTTPStatus.BAD_REQUEST
        return status, error_body(exc.message)
    finally:
        reply.release()
