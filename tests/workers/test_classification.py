"""Classification: order, numbers, labels, refusals."""

import numpy as np
import pytest

from tensorhub import bytes_codec
from tensorhub.errors import InvalidArgument
from tensorhub.requests import Tensor
from tensorhub.tensors import DataType
from tensorhub.workers.classification import MAX_ELEMENTS, classify


def _tensor(array: "np.ndarray", datatype: DataType) -> Tensor:
    return Tensor("OUT", datatype, array.shape, array)


def _strings(tensor: Tensor) -> list[str]:
    return [item.decode() for item in bytes_codec.deserialize(tensor.data)]


def test_the_largest_come_first_and_equal_ones_in_their_order() -> None:
    found = classify(_tensor(np.array([[1, 7, 7, -3]], np.int32), DataType.INT32), 3, (), batched=True)
    assert (found.datatype, found.shape) == (DataType.BYTES, (1, 3))
    assert _strings(found) == ["7:1", "7:2", "1:0"]


def test_labels_and_floats() -> None:
    values = np.array([0.25, 0.5, 3e-7], np.float32)
    found = classify(_tensor(values, DataType.FP32), 9, ["cat", "dog"], batched=False)
    assert found.shape == (3,)
    assert _strings(found) == ["0.500000:1:dog", "0.250000:0:cat", "0.000000:2"]


def test_each_row_has_its_own_classes() -> None:
    values = np.array([[[1, 2], [3, 0]], [[9, 8], [7, 6]]], np.uint8)
    found = classify(_tensor(values, DataType.UINT8), 2, (), batched=True)
    assert found.shape == (2, 2)
    assert _strings(found) == ["3:2", "2:1", "9:0", "8:1"]


@pytest.mark.parametrize("datatype", [DataType.BYTES, DataType.BOOL, DataType.FP16, DataType.BF16])
def test_types_without_classes(datatype: DataType) -> None:
    with pytest.raises(InvalidArgument, match=rf"due to unsupported type '{datatype.value}'$"):
        classify(Tensor("OUT", datatype, (1,), b"\0\0"), 1, (), batched=False)


def test_too_large() -> None:
    with pytest.raises(InvalidArgument, match=r"^classification output tensor too large$"):
        classify(Tensor("OUT", DataType.INT8, (MAX_ELEMENTS + 1,), b""), 1, (), batched=False)
