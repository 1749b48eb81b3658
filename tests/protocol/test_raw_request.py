"""Raw requests, with the error texts of a running Triton."""

from typing import Any

import pytest

from tensorhub.errors import InvalidArgument
from tensorhub.protocol.http_infer import BINARY_PLAN, Limits
from tensorhub.protocol.json_request import decode_infer
from tests.protocol.targets import target

LIMITS = Limits()


@pytest.mark.parametrize(
    ("data_type", "dims", "max_batch_size", "body", "shape", "content"),
    [
        (11, [-1], 0, bytes(12), [3], bytes(12)),
        (11, [-1], 0, b"", [0], b""),
        (11, [-1, 2], 4, bytes(16), [1, 2, 2], bytes(16)),
        (11, [2], 8, bytes(8), [1, 2], bytes(8)),
        (1, [-1], 0, b"\1\0", [2], b"\1\0"),
        (13, [1], 4, b"hello", [1, 1], b"\5\0\0\0hello"),
        (13, [1, 1], 0, b"", [1, 1], b"\0\0\0\0"),
    ],
)
def test_raw_requests(
    data_type: int, dims: list[int], max_batch_size: int, body: bytes, shape: list[int], content: bytes
) -> None:
    model = target(("A", data_type, dims), max_batch_size=max_batch_size)
    decoded = decode_infer(body, 0, model, LIMITS)
    assert list(decoded.request.inputs[0].shape) == shape
    assert list(decoded.request.raw_input_contents) == [content]
    assert decoded.plan is BINARY_PLAN


@pytest.mark.parametrize(
    ("inputs", "body", "text"),
    [
        (
            [("A", 8, [1]), ("B", 8, [1])],
            b"abcd",
            "Raw request must only have 1 input (found 1) to be deduced but got 2 inputs in 'm' model configuration",
        ),
        ([("A", 13, [2])], b"x", "For BYTE datatype raw input 'A', the model must have input shape [1]"),
        ([("A", 13, [-1])], b"x", "For BYTE datatype raw input 'A', the model must have input shape [1]"),
        (
            [("A", 11, [-1, -1])],
            b"abcd",
            "The shape of the raw input 'A' can not be deduced because there are more than one variable-sized "
            "dimension",
        ),
        (
            [("A", 11, [-1])],
            b"abc",
            "input byte size mismatch for input 'raw_input' for model 'm'. Expected 0, got 3",
        ),
        (
            [("A", 11, [-1, 2])],
            bytes(12),
            "input byte size mismatch for input 'raw_input' for model 'm'. Expected 8, got 12",
        ),
    ],
)
def test_raw_requests_that_are_wrong(inputs: list[Any], body: bytes, text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode_infer(body, 0, target(*inputs), LIMITS)
    assert caught.value.message == f"[request id: <id_unknown>] {text}"
