"""The classification extension: the k largest values of an output, as strings, in place of the tensor. Pure.

Each string is `<value>:<index>` and, where the config names a label file, `:<label>`. Source: classification.cc of
Triton's server; values print like C++ `std::to_string`.
"""

from collections.abc import Sequence

import numpy as np

from tensorhub import bytes_codec
from tensorhub.errors import InvalidArgument
from tensorhub.requests import Tensor
from tensorhub.tensors import DataType, element_count

MAX_ELEMENTS = 1_000_000
"""Of one output, Triton's limit."""

_SUPPORTED = frozenset(
    (
        DataType.UINT8,
        DataType.UINT16,
        DataType.UINT32,
        DataType.UINT64,
        DataType.INT8,
        DataType.INT16,
        DataType.INT32,
        DataType.INT64,
        DataType.FP32,
        DataType.FP64,
    )
)


def classify(tensor: Tensor, count: int, labels: Sequence[str], *, batched: bool) -> Tensor:
    """Return the classes of an output: a BYTES tensor of shape (rows, k), or (k,) for a model that does not batch.

    Args:
        count: how many classes are wanted; k is that or, if the output has fewer elements a row, their number.
        labels: the label of each index, as far as there are some.
        batched: the first dimension counts rows.

    Raises:
        InvalidArgument: the type has no classes, or the tensor is too large.
    """
    if tensor.datatype not in _SUPPORTED:
        raise InvalidArgument(
            f"class result not available for output due to unsupported type '{tensor.datatype.value}'"
        )
    if element_count(tensor.shape) > MAX_ELEMENTS:
        raise InvalidArgument("classification output tensor too large")
    rows = tensor.shape[:1] if batched else ()
    width = element_count(tensor.shape[len(rows) :])
    values = np.frombuffer(memoryview(tensor.data).cast("B"), tensor.datatype.numpy_name).reshape(-1, max(1, width))
    k = min(count, width)
    # Ascending and reversed, so that no type has to be negated; equal values keep their order.
    order = values.shape[1] - 1 - np.argsort(values[:, ::-1], axis=1, kind="stable")[:, ::-1][:, :k]
    classes = np.array(
        [_class(values[row, index], int(index), labels) for row in range(values.shape[0]) for index in order[row]],
        dtype=object,
    )
    return Tensor(tensor.name, DataType.BYTES, (*rows, k), bytes_codec.serialize(classes))


def _class(value: np.generic, index: int, labels: Sequence[str]) -> bytes:
    number = f"{value:f}" if isinstance(value, np.floating) else str(value)
    label = f":{labels[index]}" if index < len(labels) and labels[index] else ""
    return f"{number}:{index}{label}".encode()
