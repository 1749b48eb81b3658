"""The client's tensors: values to arrays, arrays to bytes and back, and what is refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorhub.client.tensors import (
    Tensor,
    TensorError,
    TensorSpec,
    as_array,
    decode,
    encode,
    infer_request,
    infer_response,
    random_array,
)
from tensorhub.tensors import BY_NAME


@pytest.mark.parametrize(
    ("datatype", "shape", "value", "expected_shape"),
    [
        ("INT32", (-1, 4), [1, 2, 3, 4], (1, 4)),
        ("INT32", (-1, 4), [[1, 2, 3, 4]], (1, 4)),
        ("INT32", (-1, 4), [1, 2, 3, 4, 5, 6, 7, 8], (2, 4)),
        ("FP32", (2, 2), [1, 2, 3, 4], (2, 2)),
        ("FP32", (-1,), [0.5], (1,)),
        ("FP32", (-1,), [], (0,)),
        ("FP32", (), 0.5, ()),
        ("BOOL", (-1, 2), [True, False], (1, 2)),
        ("BYTES", (-1, -1), ["a", "bc"], (1, 2)),
        ("BYTES", (1,), "hello", (1,)),
        ("BF16", (2,), [1.0, 2.0], (2,)),
    ],
)
def test_values_get_the_shape_of_the_model(
    datatype: str, shape: tuple[int, ...], value: object, expected_shape: tuple[int, ...]
) -> None:
    assert as_array(value, TensorSpec("X", datatype, shape)).shape == expected_shape


@pytest.mark.parametrize(
    ("datatype", "shape", "value", "reason"),
    [
        ("INT32", (4,), [1, 2, 3], r"has the shape \[4\], the value has \[3\]"),
        ("INT32", (-1, 4), [[1, 2], [3, 4]], "has the shape"),
        ("INT32", (1,), [1.5], "a number with a fraction"),
        ("INT8", (1,), [128], "not within -128 and 127"),
        ("UINT8", (1,), [-1], "not within 0 and 255"),
        ("INT64", (1,), [2**64], "not a regular list|too large"),
        ("INT32", (1,), ["1"], "text"),
        ("INT32", (2,), [1, [2]], "X"),
        ("BOOL", (1,), [1], "an integer"),
        ("BYTES", (1,), [1], "text is wanted"),
        ("FP80", (1,), [1], "unknown datatype 'FP80'"),
    ],
)
def test_values_that_do_not_fit_are_refused(datatype: str, shape: tuple[int, ...], value: object, reason: str) -> None:
    with pytest.raises(TensorError, match=reason):
        as_array(value, TensorSpec("X", datatype, shape))


@pytest.mark.parametrize("datatype", sorted(BY_NAME))
def test_random_tensors_survive_the_wire(datatype: str) -> None:
    array = random_array(TensorSpec("X", datatype, (-1, 3, -1)), np.random.default_rng(1), [2])
    assert array.shape == (2, 3, 1)
    back = decode(encode(Tensor("X", datatype, array)), datatype, array.shape)
    assert back.shape == array.shape
    if datatype == "BF16":
        assert np.allclose(back, array, rtol=2**-7)
    else:
        assert (back == array).all()


@given(st.lists(st.binary(max_size=20)))
def test_bytes_survive_the_wire_and_cut_ones_are_refused(items: list[bytes]) -> None:
    data = encode(Tensor("X", "BYTES", np.fromiter(items, dtype=object, count=len(items))))
    assert decode(data, "BYTES", (len(items),)).tolist() == items
    if data:
        with pytest.raises(TensorError):
            decode(data[:-1], "BYTES", (len(items),))
    with pytest.raises(TensorError):
        decode(data + b"\1", "BYTES", (len(items),))


def test_request_and_response() -> None:
    first, second = np.arange(3, dtype=np.int32), np.array([b"x", b""], dtype=object)
    body, length = infer_request([Tensor("A", "INT32", first), Tensor("B", "BYTES", second)], ["OUT"])
    header = json.loads(body[:length])
    assert [item["parameters"]["binary_data_size"] for item in header["inputs"]] == [12, 9]
    assert header["outputs"] == [{"name": "OUT", "parameters": {"binary_data": True}}]
    # A request's body has the form of a response's, but for the names of the lists.
    answer = json.dumps({"outputs": header["inputs"]}).encode()
    outputs = infer_response(answer + body[length:], len(answer))
    assert [item.array.tolist() for item in outputs] == [[0, 1, 2], [b"x", b""]]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"outputs":[{}]}',
        b'{"outputs":[{"name":"a","datatype":"INT32","shape":[1],"parameters":{"binary_data_size":4}}]}',
        b'{"outputs":[{"name":"a","datatype":"INT32","shape":[2],"data":[1]}]}',
    ],
)
def test_what_is_no_response_is_refused(body: bytes) -> None:
    with pytest.raises(TensorError):
        infer_response(body, None)
