"""What a case consists of.

A case is a sequence of steps against one server. Everything here is a value: the tables under `cases/` only build
these, `runner` performs them. A step that has an answer contributes one entry to the recording; all steps count, so
that the entries and the steps stay parallel.

The text RUN_TOKEN may stand anywhere in a request (a path, a body, a protobuf string) and in a shared-memory key. The
runner replaces it by a token of the same length that is unique to the run, and puts it back in answers, so that two
runs on one machine do not meet in /dev/shm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from google.protobuf.message import Message

RUN_TOKEN = "RUNTOKEN"
"""Placeholder, as long as its replacement, so that the lengths in protobuf and Content-Length stay right."""

CORE = frozenset({"core"})


@dataclass(frozen=True, slots=True)
class Http:
    """One HTTP exchange on a connection of its own.

    `path` is sent as it is (no escaping). `Host`, `Connection: close` and, unless `length` is false, `Content-Length`
    are added to `headers`. `only` keeps the entries of an answered list whose "name" is in it: what other models of
    the repository are in does not matter then.
    """

    method: str
    path: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    only: tuple[str, ...] = ()
    length: bool = True


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes sent to the HTTP port as they are; answers are read until the server closes or `responses` were read."""

    data: bytes
    responses: int = 1


@dataclass(frozen=True, slots=True)
class Grpc:
    """One unary call of inference.GRPCInferenceService; `only` as in Http, for the repository index."""

    method: str
    request: Message
    only: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class GrpcBytes:
    """One unary call by full path (`/package.Service/Method`), with a request and an answer that stay bytes."""

    path: str
    body: bytes = b""
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class GrpcStream:
    """One ModelStreamInfer call: the requests are sent and the stream is half-closed.

    With `one_by_one` the next request waits for the final response, or the error, to the one before, so that answers
    of decoupled models, which come as they come, have an order. `metadata` is the client's.
    """

    requests: tuple[Message | bytes, ...]
    metadata: tuple[tuple[str, str], ...] = ()
    one_by_one: bool = True


@dataclass(frozen=True, slots=True)
class ShmCreate:
    """Create the shared-memory object `key`, which begins with a slash, of `data`; it lives until the case ends."""

    key: str
    data: bytes


@dataclass(frozen=True, slots=True)
class ShmRead:
    """Read `byte_size` bytes at `offset` of the object `key`; the answer is their hexadecimal form."""

    key: str
    offset: int
    byte_size: int


@dataclass(frozen=True, slots=True)
class ReleaseRegion:
    """Unregister the system region `region` as soon as the server lets it go, for up to a minute.

    Triton 2.51 may hold a region for a moment after it answered the gRPC request that used it, and refuses until then.
    """

    region: str


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Write a file of the server's (private copy of the) model repository; `path` is relative to it."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class WriteTree:
    """Make a folder of the server's repository with these files (path, text), all at once: a server that polls sees
    the whole folder or nothing. It must not be there before."""

    path: str
    files: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RemoveTree:
    """Remove a model folder of the server's repository, all at once."""

    path: str


@dataclass(frozen=True, slots=True)
class AwaitState:
    """Poll the index for up to a minute until a version of `model` is in `state` and none is on its way."""

    model: str
    state: str


@dataclass(frozen=True, slots=True)
class AwaitAnswer:
    """Repeat a request for up to a minute until the body of its answer contains a text."""

    request: Http
    text: str


Exchange: TypeAlias = Http | Grpc

HELD = -1
"""The time in milliseconds of a request that keeps its model busy until the gate is opened; see Together."""
NOTED = -2
"""The time of a request that takes none, and has arrived when it has run, whether or not it has been answered."""


@dataclass(frozen=True, slots=True)
class Together:
    """Exchanges that overlap: each is sent when the one before has arrived; the answers are in their order.

    An inference that is HELD or NOTED has arrived when its model says so; another one when it waits in a queue or has
    been answered; other exchanges, when they have been answered. So neither the order nor what meets what depends on
    how fast anything is.

    The gate lets go of what the models hold. It is opened when all have arrived, those in `before` (by their place)
    have been answered, and `hold_ms` have passed besides.
    """

    steps: tuple[Exchange, ...]
    hold_ms: int = 0
    before: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Pause:
    """Let time pass, where it is time itself that a case is about."""

    ms: int


@dataclass(frozen=True, slots=True)
class AwaitCounted:
    """Poll the statistics for up to a minute until a model has counted so many requests, successful and failed.

    A request is counted when it has been answered, so its client may ask before.
    """

    model: str
    requests: int
    version: str = ""


Step: TypeAlias = (
    Http
    | Raw
    | Grpc
    | GrpcBytes
    | GrpcStream
    | ShmCreate
    | ShmRead
    | ReleaseRegion
    | WriteFile
    | WriteTree
    | RemoveTree
    | AwaitState
    | AwaitAnswer
    | Together
    | Pause
    | AwaitCounted
)


@dataclass(frozen=True, slots=True)
class Case:
    """A named sequence of steps on the server configuration `server` (a key of `servers.CONFIGURATIONS`).

    A case leaves the server as it found it, so that cases can run alone and in any order.
    """

    id: str
    steps: tuple[Step, ...]
    server: str = "core"
    features: frozenset[str] = field(default=CORE)
