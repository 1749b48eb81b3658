"""The frame that tensorhub's processes send each other. Pure: bytes in, values out.

One ZeroMQ frame is one message: a fixed header, then up to two parts.

     0  kind           u8    Kind
     1  version        u8    VERSION
     2  role           u8    Role of the sender: with `sender` it names the mailbox to answer to
     3  flags          u8    FLAG_*; FAILURE: the error's Code and FAILURE_*
     4  sender         u32   pid of the sender
     8  request_id     u64   chosen by the one that asks, echoed in every answer
    16  generation     u32   which incarnation of the asker; an answer to another one is dropped
    20  (padding)      u32
    24  deadline_ns    i64   CLOCK_MONOTONIC, 0: none
    32  number         u64   INFER: which load of which model version, as in the snapshot. RESULT and PARTIAL with arena
                             slots, and the RELEASE of these: which of the request's answers. CREDIT: how many. CANCEL:
                             CANCEL_HEARD or 0. Else 0
    40  head_size      u32
    44  tail_size      u32
    48  head, tail

`decode` accepts any bytes and either returns a Message or raises WireError, nothing else. What the parts hold depends
on the kind (see Kind); they are decoded by the one that asked for them.
"""

import struct
from enum import IntEnum
from typing import NamedTuple

VERSION = 1
_HEADER = struct.Struct("<BBBBIQIxxxxqQII")
HEADER_SIZE = _HEADER.size
assert HEADER_SIZE == 48

MAX_FRAME_SIZE = 256 * 1024 * 1024
"""Larger frames are refused: tensors go through arenas, so only configs and file overrides are ever large."""

MAX_BODY_SIZE = MAX_FRAME_SIZE - (1 << 20)
"""Bytes of what a client may put into one; the rest is for what is added on its way."""


class Kind(IntEnum):
    """What a message is; in brackets what its head and tail hold."""

    INFER = 1  # frontend to worker [ModelInferRequest, RequestExtras]
    RESULT = 2  # worker to frontend, the last answer [ModelInferResponse, ResponseExtras]
    FAILURE = 3  # worker to frontend, the last answer unless FAILURE_MORE [UTF-8 text, empty]
    PARTIAL = 4  # worker to frontend, more will follow [ModelInferResponse, ResponseExtras]
    CANCEL = 5  # frontend to worker, by request id
    RELEASE = 6  # receiver of arena slots to their owner, by request id and number; number 0: of a request's inputs
    HELLO = 7  # anyone to the hub [Hello]
    SNAPSHOT = 8  # hub to all [Snapshot]
    ACKNOWLEDGE = 9  # anyone to the hub [Acknowledge]
    CONTROL = 10  # frontend to hub [Control]
    CONTROL_RESULT = 11  # hub to frontend [ControlResult]
    ORDER = 12  # hub to worker [Order]
    REPORT = 13  # worker to hub [Report]
    WAKE = 14  # a process to itself: look at what has changed
    CREDIT = 15  # frontend to worker, by request id: the client has taken so many answers of a streamed request
    KEEP = 16  # worker to frontend, by request id: its model keeps inputs beyond the last answer, until RELEASE


class Role(IntEnum):
    """What a process does; the name is the first part of its mailbox's file name."""

    HUB = 1
    WORKER = 2
    HTTP = 3
    GRPC = 4
    TOOL = 5


INLINE_LIMIT = 64 * 1024
"""Bytes. A tensor up to this size, and the outputs of a response up to this size together, travel inside the message;
larger ones through an arena. PERF: below it, a copy through the socket is cheaper than a slot, which the receiver must
give back."""

FLAG_FROM_HTTP = 1
"""The request was written by our HTTP frontend, which checked its form; else it is a client's own protobuf."""
FLAG_STREAM = 2
"""Its client takes any number of answers, at its own pace: no more than STREAM_WINDOW of them may be on their way."""
FLAG_HEAD_ONLY = 4
"""RESULT and PARTIAL: the raw contents are in the tail, not in the ModelInferResponse."""
FLAG_FINAL_ONLY = 8
"""RESULT of a decoupled model: the request is done, and no response comes with it."""
FLAG_PLAIN_PARAMETERS = 16
"""INFER: the parameters are all the model's own; none of their names has a meaning."""
FLAG_TRACED = 64
"""INFER: the request is traced; the tail says where its trace belongs."""
FLAG_VERSION = 32
"""INFER: the client named the model's version; else any that is the newest will do."""

FLAG_SEEKS = 128
"""INFER: a step of a sequence, which several workers may have: refuse it with FAILURE_STALE if its sequence is not here
and there is no free slot to begin it."""

FAILURE_CODE = 0x1F
"""FAILURE: the bits of the flags that are the error's Code."""
FAILURE_STALE = 0x20
"""FAILURE: nothing was done with the request: it came after its load had been retired, send it to the next load; or,
with FLAG_SEEKS, there is no place for it here, send it to the next worker."""
FAILURE_REFUSED = 0x40
"""FAILURE: the worker did not take the request; otherwise the model's answer is this error."""
FAILURE_MORE = 0x80
"""FAILURE: an answer of a decoupled model, and not the last."""

STREAM_WINDOW = 256
"""Answers of one FLAG_STREAM request that a worker sends ahead of the credit for them; its model waits then."""
CREDIT_STEP = 64
"""Answers that a frontend gives credit for in one message."""

CANCEL_HEARD = 1
"""CANCEL, in `number`: the asker, a model of another worker, goes on to read until the request's end."""


class WireError(ValueError):
    """The bytes are not a message of this version."""


class Message(NamedTuple):
    """One decoded frame; the fields are those of the header."""

    kind: Kind
    role: Role
    flags: int
    sender: int
    request_id: int
    generation: int
    deadline_ns: int
    number: int
    head: bytes
    tail: bytes


_KINDS = {int(kind): kind for kind in Kind}
_ROLES = {int(role): role for role in Role}


def encode(
    kind: Kind,
    role: Role,
    sender: int,
    *,
    request_id: int = 0,
    generation: int = 0,
    flags: int = 0,
    deadline_ns: int = 0,
    number: int = 0,
    head: bytes = b"",
    tail: bytes = b"",
) -> bytes:
    """Build one frame.

    Raises:
        WireError: a number does not fit its field, or nobody would take so large a frame.
    """
    head_size, tail_size = len(head), len(tail)
    if HEADER_SIZE + head_size + tail_size > MAX_FRAME_SIZE:
        raise WireError(f"a message of {head_size + tail_size} bytes; a frame has at most {MAX_FRAME_SIZE}")
    try:
        header = _HEADER.pack(
            kind,
            VERSION,
            role,
            flags,
            sender,
            request_id,
            generation,
            deadline_ns,
            number,
            head_size,
            tail_size,
        )
    except struct.error as exc:
        raise WireError(f"a header field is out of range: {exc}") from exc
    return header + head + tail


def decode(frame: bytes) -> Message:
    """Read one frame.

    Raises:
        WireError: too short, too long, another version, an unknown kind or role, or lengths that do not add up.
    """
    if not HEADER_SIZE <= len(frame) <= MAX_FRAME_SIZE:
        raise WireError(f"a frame of {len(frame)} bytes; allowed are {HEADER_SIZE} to {MAX_FRAME_SIZE}")
    (
        kind,
        version,
        role,
        flags,
        sender,
        request_id,
        generation,
        deadline_ns,
        number,
        head_size,
        tail_size,
    ) = _HEADER.unpack_from(frame)
    if version != VERSION:
        raise WireError(f"frame version {version}; this process speaks {VERSION}")
    if kind not in _KINDS or role not in _ROLES:
        raise WireError(f"unknown kind {kind} or role {role}")
    head_end = HEADER_SIZE + head_size
    if head_end + tail_size != len(frame):
        raise WireError(f"parts of {head_size} and {tail_size} bytes in a frame of {len(frame)}")
    # PERF: half the time of a call of the class.
    return Message._make(
        (
            _KINDS[kind],
            _ROLES[role],
            flags,
            sender,
            request_id,
            generation,
            deadline_ns,
            number,
            frame[HEADER_SIZE:head_end],
            frame[head_end:],
        )
    )
