"""Cached answers as bytes, for a cache that others can write to as well. Pure.

    entry = b"TH1\\n" | inference.ModelInferResponse: outputs, raw_output_contents, parameters

Who reads an entry trusts nothing in it: it must be an answer that this model could have given, with outputs of the
names, datatypes and dimensions of its configuration and as many bytes as they say. What the model itself gives against
its configuration is not written, as it could not be read.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tensorhub.bytes_codec import count_elements
from tensorhub.protocol import messages
from tensorhub.protocol.model_spec import ModelSpec, OutputSpec
from tensorhub.protocol.parameters import write_parameter
from tensorhub.requests import Parameter, Tensor, flat_view
from tensorhub.tensors import MAX_BYTE_SIZE, DataType, element_count
from tensorhub.workers.cache import CacheEntry

ENTRY_LIMIT = 64 << 20
"""Bytes of an entry: what is larger takes longer to move than most models to compute."""

_MAGIC = b"TH1\n"


class EntryFault(ValueError):
    """The bytes are no answer of this model."""


def write_entry(entry: CacheEntry) -> bytes:
    """Return the entry as bytes."""
    message = messages.ModelInferResponse()
    for tensor in entry.outputs:
        message.outputs.add(name=tensor.name, datatype=tensor.datatype.value, shape=tensor.shape)
        message.raw_output_contents.append(bytes(flat_view(tensor.data)))
    for name, value in entry.parameters.items():
        write_parameter(message.parameters[name], value)
    return bytes(_MAGIC + message.SerializeToString())


def read_entry(data: bytes, spec: ModelSpec) -> CacheEntry:
    """Read an entry that answers what its key was made of.

    Raises:
        EntryFault: it is none.
    """
    if len(data) > ENTRY_LIMIT:
        raise EntryFault(f"it has more than {ENTRY_LIMIT} bytes")
    if not data.startswith(_MAGIC):
        raise EntryFault("it does not begin as an entry does")
    try:
        message = messages.ModelInferResponse.FromString(data[len(_MAGIC) :])
    except messages.DecodeError as exc:
        raise EntryFault("it cannot be parsed") from exc
    contents = message.raw_output_contents
    if len(message.outputs) != len(contents):
        raise EntryFault(f"it has {len(message.outputs)} outputs and the contents of {len(contents)}")
    outputs = []
    for item, content in zip(message.outputs, contents, strict=True):
        output = spec.outputs.get(item.name)
        if output is None:
            raise EntryFault(f"the model has no output '{item.name}'")
        if item.datatype != output.datatype.value:
            raise EntryFault(f"output '{item.name}' is of {item.datatype}")
        outputs.append(Tensor(output.name, output.datatype, tuple(item.shape), content))
    reason = objection(outputs, spec)
    if reason:
        raise EntryFault(reason)
    return CacheEntry(tuple(outputs), _parameters(message.parameters), complete=True)


def objection(outputs: Sequence[Tensor], spec: ModelSpec) -> str:
    """Return what is wrong with an answer of a model, "" if nothing is."""
    seen = set()
    for tensor in outputs:
        output = spec.outputs.get(tensor.name)
        if output is None or tensor.name in seen:
            return f"output '{tensor.name}' is there twice or not the model's"
        seen.add(tensor.name)
        if tensor.datatype is not output.datatype:
            return f"output '{tensor.name}' is of {tensor.datatype.value}"
        if not _fits(tensor.shape, output):
            return f"output '{tensor.name}' has the shape {list(tensor.shape)}"
        if not _is_filled(tensor):
            return f"output '{tensor.name}' has other than the bytes of its shape"
    return ""


def _fits(shape: Sequence[int], output: OutputSpec) -> bool:
    dims = output.dims if output.reshape is None else output.reshape
    expected = (-1, *dims) if output.batched else dims
    return len(shape) == len(expected) and all(
        actual >= 0 and wanted in (-1, actual) for wanted, actual in zip(expected, shape, strict=True)
    )


def _is_filled(tensor: Tensor) -> bool:
    count, data = element_count(tensor.shape), flat_view(tensor.data)
    if count > MAX_BYTE_SIZE:
        return False
    if tensor.datatype is not DataType.BYTES:
        return count * tensor.datatype.item_size == len(data)
    scan = count_elements(data, count)
    return scan.count == count and not scan.partial_length and scan.overrun is None


def _parameters(given: Mapping[str, Any]) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    for name, value in given.items():
        choice = value.WhichOneof("parameter_choice")
        if choice is None:
            raise EntryFault(f"the parameter '{name}' has no value")
        found[name] = getattr(value, choice)
    return found
