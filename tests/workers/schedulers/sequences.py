"""Sequence schedulers for tests, and the requests of sequences."""

from tensorhub.protocol import config_text
from tensorhub.protocol.model_config import complete
from tensorhub.requests import FLAG_SEQUENCE_END, FLAG_SEQUENCE_START, InferRequest
from tensorhub.workers.schedulers.choice import choose_scheduler
from tensorhub.workers.schedulers.sequence import SequenceScheduler

from .requests import request

IDLE_NS = 1_000_000_000

_CONFIG = """
name: "m" backend: "python" max_batch_size: {rows}
input [ {{ name: "x" data_type: TYPE_UINT8 dims: [ -1 ] }} ]
output [ {{ name: "y" data_type: TYPE_UINT8 dims: [ 1 ] }} ]
sequence_batching {{
  max_sequence_idle_microseconds: 1000000
  control_input [
    {{ name: "START" control [ {{ kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] }} ] }},
    {{ name: "END" control [ {{ kind: CONTROL_SEQUENCE_END bool_false_true: [ false, true ] }} ] }},
    {{ name: "READY" control [ {{ kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] }} ] }},
    {{ name: "CORRID" control [ {{ kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_INT64 }} ] }}
  ]
  {strategy}
}}
"""


def scheduler(
    strategy: str = "", *, rows: int = 3, instances: int = 1, files: dict[str, bytes] | None = None
) -> SequenceScheduler:
    """A scheduler as the text of a config describes it."""
    config = complete(config_text.parse_text(_CONFIG.format(rows=rows, strategy=strategy), "test"), name="m")
    found = choose_scheduler(config, instances, files or {})
    assert isinstance(found, SequenceScheduler)
    return found


def step(sequence: int | str, name: str, flags: str = "", length: int = 1, timeout_us: int = 0) -> InferRequest:
    """A step of a sequence; `flags` has an s if it is the first, an e if it is the last."""
    item = request(name, timeout_us=timeout_us, x=length)
    item.correlation_id = sequence
    item.flags = FLAG_SEQUENCE_START * ("s" in flags) + FLAG_SEQUENCE_END * ("e" in flags)
    return item


def values(item: InferRequest, name: str) -> list[float]:
    """An input of a request as numbers."""
    tensor = item.inputs[name]
    return memoryview(bytes(memoryview(tensor.data))).cast(tensor.datatype.struct_code).tolist()
