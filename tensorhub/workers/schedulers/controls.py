"""The tensors through which a sequence model hears of its sequence: is this the start, the end, anything at all; whose?

They are inputs of shape [1] (behind the batch dimension) that the config names under `control_input` and that no client
sends. Source: SetControlTensors and CreateBooleanControlTensors in Triton's core.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tensorhub import bytes_codec
from tensorhub.protocol import messages
from tensorhub.requests import FLAG_SEQUENCE_END, FLAG_SEQUENCE_START, InferRequest, Tensor
from tensorhub.tensors import DataType

_KIND = messages.message_class("inference.ModelSequenceBatching.Control")
_NOT_READY = -1
_FORMS = (
    ("int32_false_true", DataType.INT32),
    ("fp32_false_true", DataType.FP32),
    ("bool_false_true", DataType.BOOL),
)


@dataclass(frozen=True, slots=True)
class Controls:
    """Of one model.

    Attributes:
        switches: the ready-made tensors by START and END flags, and for a slot without a request.
        correlation: name and type of the input for the correlation id, if there is one.
        shape: of every control.
        names: of the controls.
    """

    switches: Mapping[int, tuple[Tensor, ...]] = field(default_factory=dict)
    correlation: tuple[str, DataType] | None = None
    shape: tuple[int, ...] = (1,)
    names: frozenset[str] = frozenset()

    @staticmethod
    def from_config(config: Any) -> "Controls":
        """Read a complete, validated `inference.ModelConfig` with `sequence_batching`."""
        shape = (1, 1) if config.max_batch_size > 0 else (1,)
        kinds = [(item.name, control) for item in config.sequence_batching.control_input for control in item.control]
        correlation = None
        for name, control in kinds:
            if control.kind == _KIND.CONTROL_SEQUENCE_CORRID:
                correlation = (name, DataType.from_config(control.data_type))
        switches = {
            flags: tuple(
                _switch(name, control, _is_on(control.kind, flags), shape)
                for name, control in kinds
                if control.kind != _KIND.CONTROL_SEQUENCE_CORRID
            )
            for flags in (
                _NOT_READY,
                0,
                FLAG_SEQUENCE_START,
                FLAG_SEQUENCE_END,
                FLAG_SEQUENCE_START | FLAG_SEQUENCE_END,
            )
        }
        return Controls(switches, correlation, shape, frozenset(name for name, _ in kinds))

    def fill(self, request: InferRequest, *, ready: bool = True) -> None:
        """Put the controls among the inputs of a request, by its flags and its correlation id."""
        flags = request.flags & (FLAG_SEQUENCE_START | FLAG_SEQUENCE_END) if ready else _NOT_READY
        for tensor in self.switches.get(flags, ()):
            request.inputs[tensor.name] = tensor
        if self.correlation is not None:
            name, datatype = self.correlation
            request.inputs[name] = Tensor(name, datatype, self.shape, _encoded(request.correlation_id, datatype))
        request.shared |= self.names


def _is_on(kind: int, flags: int) -> bool:
    if flags == _NOT_READY:
        return False
    if kind == _KIND.CONTROL_SEQUENCE_START:
        return bool(flags & FLAG_SEQUENCE_START)
    return kind == _KIND.CONTROL_SEQUENCE_READY or bool(flags & FLAG_SEQUENCE_END)


def _switch(name: str, control: Any, on: bool, shape: tuple[int, ...]) -> Tensor:
    for form, datatype in _FORMS:
        values = getattr(control, form)
        if values:
            return Tensor(name, datatype, shape, struct.pack(f"<{datatype.struct_code}", values[on]))
    raise ValueError(f"control '{name}' has no values")


def _encoded(correlation_id: int | str, datatype: DataType) -> bytes:
    """Return a correlation id in the encoding of its control; an integer that is too large loses its upper bits."""
    if datatype is DataType.BYTES:
        text = correlation_id if isinstance(correlation_id, str) else ""
        return bytes(bytes_codec.serialize([text.encode()]))
    number = correlation_id if isinstance(correlation_id, int) else 0
    return (number % (1 << 64)).to_bytes(8, "little")[: datatype.item_size]
