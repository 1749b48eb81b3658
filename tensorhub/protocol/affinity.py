"""Which worker a sequence belongs to. Pure.

All requests of a sequence must reach the same worker, from whatever frontend, without anybody asking anybody. So the
worker follows from the correlation id alone: by rendezvous hashing over the names of the workers that share the model.
A name outlives its process, so that the death and the restart of one worker move no sequence of another.
"""

from collections.abc import Sequence

from tensorhub.protocol import messages

CorrelationId = int | str

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


def home_of(sequence: CorrelationId, names: Sequence[str]) -> str:
    """Return the name of the worker to which a sequence belongs; `names` is not empty, in any order."""
    from hashlib import blake2b  # not at the top: OpenSSL comes with it, and few servers have many workers

    kind = "text" if isinstance(sequence, str) else "number"
    return max(names, key=lambda name: blake2b(f"{kind} {sequence} {name}".encode(), digest_size=8).digest())
