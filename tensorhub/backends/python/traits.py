"""What a config says about how a Python model is run. Pure."""

from dataclasses import dataclass
from typing import Any

from tensorhub.errors import InvalidArgument, Unsupported
from tensorhub.protocol.model_spec import CPU_ONLY

OVERLAP = "ASYNC_OVERLAP"
"""Model parameter: "yes" lets a coroutine `execute` begin before the last one has ended; Triton does not know it."""


@dataclass(frozen=True, slots=True)
class Traits:
    """How a model is run.

    Attributes:
        decoupled: it answers by response senders, with any number of responses.
        iterative: its sequences may ask to be run again.
        overlaps: nobody waits for the coroutine of one `execute` before the next is called.
    """

    decoupled: bool = False
    iterative: bool = False
    overlaps: bool = False


def read_traits(config: Any) -> Traits:
    """Read an `inference.ModelConfig`.

    Raises:
        Unsupported, InvalidArgument: a parameter has a value that it cannot have.
    """
    decoupled = config.model_transaction_policy.decoupled
    if CPU_ONLY in config.parameters and _parameter(config, CPU_ONLY) not in ("yes", "no"):
        # Triton's text, with its single quotation mark.
        raise Unsupported(f"Incorrect value for {CPU_ONLY}: {_parameter(config, CPU_ONLY)}'")
    overlap = _parameter(config, OVERLAP).lower() or "no"
    if overlap not in ("yes", "no"):
        raise InvalidArgument(f"the parameter {OVERLAP} of model '{config.name}' is '{overlap}'; use 'yes' or 'no'")
    return Traits(
        decoupled=decoupled,
        iterative=config.HasField("sequence_batching") and config.sequence_batching.iterative_sequence,
        overlaps=decoupled or overlap == "yes",
    )


def _parameter(config: Any, name: str) -> str:
    return str(config.parameters[name].string_value) if name in config.parameters else ""
