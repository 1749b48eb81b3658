"""The infer call over HTTP: the one path that must be short.

Order of the checks (Triton's HandleInfer): restricted API, method, version, model, transaction policy, compression,
content length, header length, body, forwarded headers.

Memory: a large body is written into a reservation as it arrives (`body`); from `gateway.infer` on it is the gateway's.
The outputs of a reply are views of the worker's memory, given back when they have been handed to the server in pieces.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from tensorhub.errors import InvalidArgument, TensorhubError, Unsupported
from tensorhub.frontend.catalog import Catalog, ServedVersion, parse_version
from tensorhub.frontend.port import INLINE_LIMIT, GatewayPort, InferReply, OnReply, PlacedInput
from tensorhub.http.access import host_of
from tensorhub.http.admission import Refused, admit
from tensorhub.http.asgi import JSON_TYPE, Disconnected, Headers, Receive, Scope, Send, send_body, written_headers
from tensorhub.http.body import MAX_BODY_SIZE, ArenaBody, BodyReader
from tensorhub.http.connection import Connection, HttpGateway
from tensorhub.http.settings import HttpSettings
from tensorhub.http.waiting import Pending, Waiting
from tensorhub.ipc.wire import FLAG_FROM_HTTP, FLAG_VERSION
from tensorhub.protocol import compression
from tensorhub.protocol.forwarding import is_forwarded
from tensorhub.protocol.http_infer import (
    HttpInfer,
    LargeInput,
    ResponsePlan,
    check_json_size,
    check_raw_size,
    parse_header_length,
)
from tensorhub.protocol.json_reply import encode_infer
from tensorhub.protocol.json_request import decode_infer
from tensorhub.protocol.json_text import error_body
from tensorhub.protocol.sharing import check_outputs

Chunks = list[bytes | memoryview]

_BINARY_TYPE = (b"content-type", b"application/octet-stream")
_HEADER_LENGTH = b"inference-header-content-length"
_PIECE_SIZE = 128 * 1024
"""Bytes of a reply that are handed to the server at a time: it waits for the socket between them."""

_LAST_PIECE_SIZE = 8 * 1024
"""Bytes that are kept for the event that ends a large reply; so few that the server need not wait for the socket."""

_COMPRESS_IN_THREAD = 256 * 1024
"""Bytes. Compressing more than that would hold up the event loop for milliseconds."""

_DECOMPRESS_IN_THREAD = 4 * 1024
"""Bytes of a compressed body, which may be a thousand times as many, and hold up the event loop likewise."""


class Body(NamedTuple):
    """A received body: in memory, or in an arena."""

    data: bytes | memoryview
    header_length: int
    arena: ArenaBody | None = None


class InferEndpoint:
    """Serves `POST /v2/models/<model>[/versions/<version>]/infer`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting = Waiting()

    async def serve(self, scope: Scope, receive: Receive, send: Send, model: str, version: str) -> None:
        """Answer one request, whatever happens; and nothing if the client has gone."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        reader = BodyReader(receive, held_back=b"expect" in headers, announced=b"content-length" in headers)
        try:
            try:
                gateway, catalog, settings = await admit(self._connection, scope)
                target = find_target(catalog, model, version)
                owner = settings.scope.owner(scope["headers"], host_of(scope)) if settings.divided else ""
                body = await _receive_body(reader, headers, gateway, settings)
                pending = Pending(asyncio.get_running_loop(), receive)
                may_share = partial(settings.client_memory.allows, scope) if settings.guards_outputs else None
                forwarded = headers if settings.forward is None else written_headers(scope)
                request_id, decoded = send_request(
                    gateway, settings, target, forwarded, body, pending.on_reply, owner, may_share, named=version != ""
                )
                self._waiting.add(pending)
                try:
                    reply = await pending.reply()
                except BaseException:
                    gateway.cancel(request_id)
                    pending.abandon()
                    raise
                finally:
                    self._waiting.discard(pending)
                await _send_reply(send, reply, decoded.plan, headers)
            except TensorhubError as exc:
                await reader.drain()
                await send_body(send, exc.http_status, [JSON_TYPE], error_body(exc.message))
            except Refused as exc:
                await reader.drain()
                await send_body(send, exc.status, [JSON_TYPE, *exc.headers], error_body(exc.message))
        except Disconnected:
            await reader.tell_if_incomplete(send)


def find_target(catalog: Catalog, model: str, version: str) -> ServedVersion:
    """Return what is to run a request.

    Raises:
        TensorhubError: there is no such model or version, it is not ready, or one answer is not what it gives.
    """
    target = catalog.find(model, parse_version(version))
    if target.decoupled:
        raise Unsupported("HTTP end point doesn't support models with decoupled transaction policy")
    return target


def send_request(
    gateway: GatewayPort,
    settings: HttpSettings,
    target: ServedVersion,
    headers: Mapping[bytes, bytes],
    body: Body,
    on_reply: OnReply,
    owner: str = "",
    may_share: Callable[[], bool] | None = None,
    *,
    named: bool,
) -> tuple[int, HttpInfer]:
    """Decode a body and send it to a worker; return the request's number, and what was in the body.

    Args:
        body: its arena belongs to this function, whatever happens.
        owner: whose regions the request may name.
        may_share: tells whether regions may be made for its outputs, if that need be asked.
        named: the client named the version.

    Raises:
        TensorhubError: nothing has been sent, and `on_reply` will not be called.
    """
    arena = body.arena
    placed: list[PlacedInput] = []
    try:
        decoded = decode_infer(body.data, body.header_length, target, settings.limits, in_arena=arena is not None)
        if may_share is not None:
            check_outputs(decoded.request, may_share)
        if settings.forward is not None:
            forward_headers(headers, settings.forward, decoded.request)
        if decoded.large:
            place_large(decoded.large, gateway, placed)
        if arena is not None and decoded.ranges:
            lead = arena.lead
            reservation = arena.take()
            placed += [
                PlacedInput(item.input_index, reservation, lead + item.offset, item.byte_size)
                for item in decoded.ranges
            ]
    except BaseException:
        for item in placed:
            item.reservation.free()
        raise
    finally:
        if arena is not None:
            arena.free()
    flags = FLAG_FROM_HTTP | FLAG_VERSION if named else FLAG_FROM_HTTP
    request_id = gateway.infer(
        target,
        decoded.request.SerializeToString(),
        on_reply,
        flags=flags,
        placed=placed,
        owner=owner,
        traceparent=traceparent(headers) if gateway.tracing else "",
    )
    return request_id, decoded


def traceparent(headers: Mapping[bytes, bytes]) -> str:
    """Return the header by which a client that traces its requests says so; "" if there is none.

    Args:
        headers: their names in any case.
    """
    return next((value for name, value in headers.items() if name.lower() == b"traceparent"), b"").decode("latin-1")


def reply_headers(json_size: int | None) -> Headers:
    """Return the headers, without the length, of a reply whose JSON part has `json_size` bytes; None: all of it."""
    return [JSON_TYPE] if json_size is None else [_BINARY_TYPE, (_HEADER_LENGTH, b"%d" % json_size)]


def forward_headers(headers: Mapping[bytes, bytes], pattern: re.Pattern[str], request: Any) -> None:
    """Make parameters of a ModelInferRequest of the headers that the pattern finds.

    Raises:
        InvalidArgument: one of them has the name of a parameter with a meaning.
    """
    for raw_name, value in headers.items():
        name = raw_name.decode("latin-1")
        if is_forwarded(name, pattern):
            request.parameters[name].string_param = value.decode("latin-1")


def place_large(large: Sequence[LargeInput], gateway: GatewayPort, placed: list[PlacedInput]) -> None:
    """Copy inputs that lie nowhere yet into the arena; `placed` owns what is done, also after an error.

    Raises:
        Unavailable: the arena is full.
    """
    for item in large:
        size = len(item.data)
        reservation = gateway.reserve(size)
        placed.append(PlacedInput(item.input_index, reservation, 0, size))
        reservation.view[:size] = item.data


async def _receive_body(
    reader: BodyReader, headers: dict[bytes, bytes], gateway: HttpGateway, settings: HttpSettings
) -> Body:
    """Receive the body.

    Raises:
        TensorhubError: too long, or the header length does not fit.
        Disconnected: the client has gone.
    """
    limits = settings.limits
    if b"content-encoding" in headers:
        encoding = compression.request_encoding(headers[b"content-encoding"].decode("latin-1"))
        if encoding is None:
            raise Refused(501, "Unsupported compression type", (b"accept-encoding", compression.SUPPORTED))
        if encoding != compression.IDENTITY:
            packed = await reader.gather(limits.max_input_size + _PIECE_SIZE)
            if not reader.finished:
                raise compression.too_large(limits.max_input_size)
            data = await _decompress(packed, limits.max_input_size)
            return Body(data, json_size_of(headers, len(data)))
    content_length = _content_length(headers)
    if _HEADER_LENGTH not in headers:
        if content_length is not None:
            check_json_size(content_length, limits)
        text = await reader.gather(limits.max_input_size)
        if not reader.finished:
            await reader.drain()
        check_json_size(reader.received, limits)
        return Body(text, len(text))
    header_length = json_size_of(headers, MAX_BODY_SIZE if content_length is None else content_length)
    if content_length is not None:
        _check_early(header_length, content_length, settings)
    data = b""
    if content_length is None or content_length <= INLINE_LIMIT:
        data = await reader.gather(INLINE_LIMIT)
        if reader.finished:
            return Body(data, header_length if len(data) == content_length else json_size_of(headers, len(data)))
    return await _receive_into_arena(data, reader, headers, ArenaBody(gateway, header_length, content_length))


async def _decompress(packed: bytes, max_byte_size: int) -> bytes:
    if len(packed) <= _DECOMPRESS_IN_THREAD:
        return compression.decompress(packed, max_byte_size)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, compression.decompress, packed, max_byte_size)


def _check_early(header_length: int, content_length: int, settings: HttpSettings) -> None:
    """Refuse what is too long before it is received."""
    if header_length == 0:
        check_raw_size(content_length, settings.limits)
    else:
        check_json_size(header_length, settings.limits)


async def _receive_into_arena(data: bytes, reader: BodyReader, headers: dict[bytes, bytes], arena: ArenaBody) -> Body:
    """Receive the rest of a body that begins with `data`; `arena` is freed after an error."""
    try:
        arena.write(data)
        while not reader.finished:
            arena.write(await reader.chunk())
            if reader.received > MAX_BODY_SIZE:
                raise _body_too_long(str(reader.received))
        return Body(arena.view, json_size_of(headers, reader.received), arena)
    except BaseException:
        arena.free()
        raise


def _content_length(headers: dict[bytes, bytes]) -> int | None:
    text = headers.get(b"content-length")
    if text is None:
        return None
    length = int(text)
    if length > MAX_BODY_SIZE:
        raise _body_too_long(text.decode("latin-1"))
    return length


def _body_too_long(text: str) -> InvalidArgument:
    return InvalidArgument(
        f"Unable to parse Content-Length, value is out of range [ {-MAX_BODY_SIZE - 1}, {MAX_BODY_SIZE} ], got: {text}"
    )


def json_size_of(headers: Mapping[bytes, bytes], body_size: int) -> int:
    """Length of the JSON part; without a header, all of the body."""
    text = headers.get(_HEADER_LENGTH)
    if text is None:
        return body_size
    return parse_header_length(text.decode("latin-1"), body_size)


async def _send_reply(send: Send, reply: InferReply, plan: ResponsePlan, headers: dict[bytes, bytes]) -> None:
    """Encode an answer and send it.

    Raises:
        TensorhubError: the model's error, or the answer cannot be encoded; nothing has been sent.
    """
    try:
        if reply.error is not None:
            raise reply.error
        json_size, chunks = encode_infer(plan, reply.response, reply.outputs)
        response_headers = reply_headers(json_size)
        if b"accept-encoding" in headers:
            chunks = await _compress(chunks, headers[b"accept-encoding"].decode("latin-1"), response_headers)
        last = await _send_but_the_end(send, response_headers, chunks)
    finally:
        reply.release()
    # Only now, with nothing left to do: a client that has the whole reply may begin its next request at once, and
    # servers are not ready for that before we return (see `gunicorn_worker`).
    await send({"type": "http.response.body", "body": last})


async def _compress(chunks: Chunks, accepted: str, response_headers: Headers) -> Chunks:
    encoding = compression.response_encoding(accepted)
    if encoding == compression.IDENTITY:
        return chunks
    response_headers.append((b"content-encoding", encoding.encode()))
    if sum(map(len, chunks)) > _COMPRESS_IN_THREAD:
        loop = asyncio.get_running_loop()
        return [*await loop.run_in_executor(None, compression.compress, encoding, chunks)]
    return [*compression.compress(encoding, chunks)]


async def _send_but_the_end(send: Send, headers: Headers, chunks: Chunks) -> bytes:
    """Send a response but for its last bytes, which are returned; none of the chunks is needed any more then."""
    total = sum(map(len, chunks))
    headers.append((b"content-length", b"%d" % total))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if total <= INLINE_LIMIT:
        return b"".join(chunks)
    last = chunks.pop()
    split = max(len(last) - _LAST_PIECE_SIZE, 0)
    for chunk in (*chunks, last[:split]):
        for start in range(0, len(chunk), _PIECE_SIZE):
            # Copied: servers may keep what they are given for longer than the worker's memory is ours.
            piece = bytes(chunk[start : start + _PIECE_SIZE])
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)  # others have their turn: a socket may take megabytes at once
    return bytes(last[split:])
