"""Request bodies: small ones gathered, large ones written into the arena as they arrive.

    reservation   | lead | JSON part | binary part ... |
                                     ^ a multiple of ALIGNMENT

so that the tensors of the binary part are where a model can use them, and are never copied again.
"""

import io
from typing import Protocol

from tensorhub.errors import InvalidArgument
from tensorhub.frontend.port import ALIGNMENT, Reservation
from tensorhub.http.asgi import JSON_TYPE, Disconnected, Event, Receive, Send, send_body
from tensorhub.protocol.json_text import error_body

MAX_BODY_SIZE = 2**31 - 1
"""Bytes; Triton counts a body in an int32."""

MAX_SMALL_CHUNKS = 65_536
"""Chunks below _SMALL_CHUNK in one chunked body; Triton's limit is on all chunks, but servers do not show us those."""

_SMALL_CHUNK = 512
_FIRST_RESERVATION = 256 * 1024
_DRAIN_LIMIT = 256 * 1024 * 1024

TOO_MANY_CHUNKS = (
    f"Chunked request body exceeds maximum of {MAX_SMALL_CHUNKS} non-empty chunks. Send fewer or larger HTTP chunks."
)

_INCOMPLETE = "the request's body has not arrived: nothing has come for too long. Send it without long pauses"


class Reserver(Protocol):
    """The part of the gateway that is needed here."""

    def reserve(self, byte_size: int) -> Reservation: ...


class BodyReader:
    """The body of one request, event by event.

    Attributes:
        finished: the whole body has been received.
        received: bytes so far.
    """

    __slots__ = ("_announced", "_held_back", "_receive", "_small_chunks", "finished", "received")

    def __init__(self, receive: Receive, *, held_back: bool = False, announced: bool = False) -> None:
        """Args:
        held_back: the client waits for a word from us before it sends (Expect: 100-continue).
        announced: it has said how long the body is, so that the pieces in which it comes are not its chunks.
        """
        self._receive = receive
        self._held_back = held_back
        self._announced = announced
        self._small_chunks = 0
        self.finished = False
        self.received = 0

    async def event(self) -> Event:
        """Return the next event of the body, as it has come.

        Raises:
            Disconnected: the client has gone, or the server waits no longer for it.
        """
        self._held_back = False
        event: Event = await self._receive()
        if event["type"] != "http.request":
            raise Disconnected
        self.finished = not event.get("more_body", False)
        self.received += len(event.get("body", b""))
        return event

    async def chunk(self) -> bytes:
        """Return the next piece, possibly empty.

        Raises:
            Disconnected: the client has gone.
            InvalidArgument: too many tiny chunks.
        """
        data: bytes = (await self.event()).get("body", b"")
        if len(data) < _SMALL_CHUNK and not self.finished and data and not self._announced:
            self._small_chunks += 1
            if self._small_chunks > MAX_SMALL_CHUNKS:
                raise InvalidArgument(TOO_MANY_CHUNKS)
        return data

    async def gather(self, limit: int) -> bytes:
        """Return the body; `finished` tells whether all of it: what is longer than `limit` is left unread."""
        data = await self.chunk()
        if self.finished:
            return data
        body = io.BytesIO()
        body.write(data)
        while not self.finished and self.received <= limit:
            body.write(await self.chunk())
        return body.getvalue()

    async def drain(self) -> None:
        """Read on to the end and forget it, so that the client gets to see our answer.

        A client that has not read the answer while it sends would meet a reset connection instead. Does nothing if the
        client waits for us, and gives up when it is too much.

        Raises:
            Disconnected: the client has gone.
        """
        if self._held_back:
            return
        limit = self.received + _DRAIN_LIMIT
        while not self.finished and self.received < limit:
            await self.event()

    async def tell_if_incomplete(self, send: Send) -> None:
        """Answer a client whose body has not come to its end; to a server, one that pauses is as one that has gone."""
        if not self.finished:
            await send_body(send, 408, [JSON_TYPE], error_body(_INCOMPLETE))


class ArenaBody:
    """A body in a reservation, which belongs to this object until `take`.

    Attributes:
        lead: bytes of the reservation in front of the body.
        byte_size: of the body so far.
    """

    __slots__ = ("_gateway", "_reservation", "byte_size", "lead")

    def __init__(self, gateway: Reserver, header_length: int, content_length: int | None) -> None:
        """Reserve room.

        Args:
            header_length: of the JSON part.
            content_length: of the whole body; None if that is not known: the reservation grows then.

        Raises:
            Unavailable: the arena's budget is used up.
        """
        self.lead = -header_length % ALIGNMENT
        self.byte_size = 0
        self._gateway = gateway
        size = _FIRST_RESERVATION if content_length is None else content_length
        self._reservation: Reservation | None = gateway.reserve(self.lead + size)

    @property
    def view(self) -> memoryview:
        """The body so far."""
        assert self._reservation is not None
        return self._reservation.view[self.lead : self.lead + self.byte_size]

    def write(self, data: bytes) -> None:
        """Append a piece.

        Raises:
            Unavailable: there is no room to grow into.
        """
        assert self._reservation is not None
        start = self.lead + self.byte_size
        end = start + len(data)
        if end > len(self._reservation.view):
            self._grow(end)
        self._reservation.view[start:end] = data
        self.byte_size += len(data)

    def _grow(self, needed: int) -> None:
        assert self._reservation is not None
        old = self._reservation
        self._reservation = None
        try:
            self._reservation = self._gateway.reserve(max(needed, 2 * len(old.view)))
            self._reservation.view[: self.lead + self.byte_size] = old.view[: self.lead + self.byte_size]
        finally:
            old.free()

    def take(self) -> Reservation:
        """Hand the reservation over to the caller."""
        assert self._reservation is not None
        reservation, self._reservation = self._reservation, None
        return reservation

    def free(self) -> None:
        """Give the reservation back, unless it has been taken."""
        if self._reservation is not None:
            self._reservation.free()
            self._reservation = None
