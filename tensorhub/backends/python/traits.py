"""What a config says about how a Python model is run. Pure."""

from dataclasses import dataclass
from typing import Any

from tensorhub.errors import InvalidArgument, Unsupported

OVERLAP = "ASYNC_OVERLAP"
"""Model parameter: "yes" lets a coroutine `execute` begin before the last one has ended; Triton does not know it."""

CPU_ONLY = "FORCE_CPU_ONLY_INPUT_TENSORS"
"""Model parameter of Triton: "no" leaves inputs where they are, also in the memory of a GPU."""


@dataclass(frozen=True, slots=True)
class Traits:
    """How a model is run.

    Attributes:
        decoupled: it answers by response senders, with any number of responses.
        iterative: its sequences may ask to be run again.
        overlaps: nobody waits for the coroutine of one `execute` before the next is called.
        cpu_inputs: it sees its inputs in host memory, wherever the client has put them.
    """

    decoupled: bool = False
    iterative: bool = False
    overlaps: bool = False
    cpu_inputs: bool = True


def read_traits(config: Any) -> Traits:
    """Read an `inference.ModelConfig`.

    Raises:
        Unsupported, InvalidArgument: a parameter has a value that it cannot have.
    """
    decoupled = config.model_transaction_policy.decoupled
    cpu_only = _parameter(config, CPU_ONLY) or "yes"
    if cpu_only not in ("yes", "no"):
        # Triton's text, with the quotation mark that it lacks.
        raise Unsupported(f"Incorrect value for {CPU_ONLY}: {cpu_only}'")
    overlap = _parameter(config, OVERLAP).lower() or "no"
    if overlap not in ("yes", "no"):
        raise InvalidArgument(f"the parameter {OVERLAP} of model '{config.name}' is '{overlap}'; use 'yes' or 'no'")
    return Traits(
        decoupled=decoupled,
        iterative=config.HasField("sequence_batching") and config.sequence_batching.iterative_sequence,
        overlaps=decoupled or overlap == "yes",
        cpu_inputs=cpu_only == "yes",
    )


def _parameter(config: Any, name: str) -> str:
    return str(config.parameters[name].string_value) if name in config.parameters else ""
