"""Putting requests together and sharing outputs out."""

from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from tensorhub.backends.batches import BatchInput, BatchPlan, made_of_shapes
from tensorhub.errors import InternalError
from tensorhub.protocol import messages
from tensorhub.requests import InferRequest, Tensor
from tensorhub.tensors import DataType

SHAPES = ((2, 3, 1), (1, 2, 2))


def plan(text: str) -> BatchPlan:
    config = messages.ModelConfig(name="m", max_batch_size=8)
    text_format.Parse(text, config)
    return BatchPlan.from_config(config)


def request(rows: int = 1, **arrays: Any) -> InferRequest:
    inputs = {
        name: Tensor(name, DataType.FP32, array.shape, array.astype(np.float32)) for name, array in arrays.items()
    }
    return InferRequest("m", 1, "", inputs, batch_size=rows)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("BATCH_ELEMENT_COUNT", [6, 4]),
        ("BATCH_ACCUMULATED_ELEMENT_COUNT", [6, 10]),
        ("BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", [0, 6, 10]),
        ("BATCH_MAX_ELEMENT_COUNT_AS_SHAPE", [0] * 6),
        ("BATCH_ITEM_SHAPE", [[3, 1], [3, 1], [2, 2]]),
        ("BATCH_ITEM_SHAPE_FLATTEN", [3, 1, 3, 1, 2, 2]),
    ],
)
@pytest.mark.parametrize("datatype", [DataType.INT32, DataType.FP32])
def test_batch_inputs(kind: str, expected: Any, datatype: DataType) -> None:
    value = made_of_shapes(BatchInput(kind, ("B",), datatype, "X"), SHAPES)
    assert value.tolist() == expected
    assert value.dtype == np.dtype(datatype.numpy_name)


def test_an_unknown_kind() -> None:
    with pytest.raises(InternalError, match="batch input kind 'NEW' is not known"):
        made_of_shapes(BatchInput("NEW", (), DataType.INT32, "X"), SHAPES)


def test_rows_come_back_to_their_requests() -> None:
    batches = plan('input { name: "X" data_type: TYPE_FP32 dims: 2 }')
    requests = [request(2, X=np.ones((2, 2))), request(1, X=np.zeros((1, 2)))]
    feeds = batches.collect(requests)
    assert feeds["X"].tolist() == [[1, 1], [1, 1], [0, 0]]
    assert [part.tolist() for part in batches.share("Y", np.arange(3), requests)] == [[0, 1], [2]]


def test_one_request_is_not_copied() -> None:
    batches = plan('input { name: "X" data_type: TYPE_FP32 dims: 2 }')
    item = request(1, X=np.ones((1, 2)))
    data: Any = item.inputs["X"].data
    assert np.shares_memory(batches.collect([item])["X"], data)


def test_a_scattered_output() -> None:
    batches = plan(
        """
        input { name: "X" data_type: TYPE_FP32 dims: -1 allow_ragged_batch: true }
        output { name: "Y" data_type: TYPE_FP32 dims: -1 }
        batch_output { kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: "Y" source_input: "X" }
        """
    )
    requests = [request(1, X=np.ones((1, 3))), request(1, X=np.ones((1, 1)))]
    assert batches.collect(requests)["X"].shape == (4,)
    assert [part.tolist() for part in batches.share("Y", np.arange(4), requests)] == [[[0, 1, 2]], [[3]]]
    with pytest.raises(InternalError, match="output 'Y' has 3 elements, fewer than the shapes of input 'X' say"):
        batches.share("Y", np.arange(3), requests)


def test_requests_that_do_not_go_together() -> None:
    with pytest.raises(InternalError, match="requests with different inputs"):
        plan("").collect([request(X=np.ones((1, 1))), request(Z=np.ones((1, 1)))])
