"""Which worker a sequence belongs to. Pure.

All requests of a sequence must reach the same worker, from whatever frontend, without anybody asking anybody. So the
worker follows from the correlation id alone: by rendezvous hashing over the names of the workers that share the model.
A name outlives its process, so that the death and the restart of one worker move no sequence of another.

The hash gives all workers an order. A sequence that finds no free slot on the first is begun on the next that has one,
and its steps are looked for in the same order.
"""

from collections.abc import Container, Sequence

from tensorhub.protocol import messages

CorrelationId = int | str

MAX_CORRELATION_ID_SIZE = 128
"""Bytes of a correlation id that is a string."""

_UINT64 = 2**64 - 1
_PARAMETER = "sequence_id"


def correlation_id(body: bytes) -> CorrelationId:
    """Return the correlation id of a serialised `inference.ModelInferRequest`; 0 if it has none that is valid.

    What is not valid is refused by whichever worker gets it.
    """
    try:
        parameters = messages.ModelInferRequest.FromString(body).parameters
    except messages.DecodeError:
        return 0
    if _PARAMETER not in parameters:
        return 0
    parameter = parameters[_PARAMETER]
    choice = parameter.WhichOneof("parameter_choice")
    if choice == "string_param":
        return str(parameter.string_param)
    return getattr(parameter, choice) & _UINT64 if choice in ("int64_param", "uint64_param") else 0


def homes_of(sequence: CorrelationId, names: Sequence[str]) -> list[str]:
    """Return the names of the workers in the order in which a sequence is to be looked for; `names` may have any."""
    from hashlib import blake2b  # not at the top: OpenSSL comes with it, and few servers have many workers

    kind = "text" if isinstance(sequence, str) else "number"
    return sorted(
        names, key=lambda name: blake2b(f"{kind} {sequence} {name}".encode(), digest_size=8).digest(), reverse=True
    )


def next_home(homes: Sequence[int], alive: Container[int], after: int = 0) -> tuple[int, bool]:
    """Return where to look for a sequence next.

    Args:
        homes: pids in the order of `homes_of`, 0 for a worker that is not there.
        alive: pids.
        after: who has said that the sequence is not there, and that it has no slot for another; 0 at the beginning.

    Returns:
        The pid of the next that is alive; and False. After all of them the first, which has the last word: it queues
        what begins a sequence, and refuses other steps; and True. It may be dead, and have had the sequence.
    """
    begin = homes.index(after) + 1 if after in homes else len(homes) if after else 0
    for pid in homes[begin:]:
        if pid in alive:
            return pid, False
    return homes[0], True
