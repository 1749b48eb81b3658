"""The generate extension's mapping, as far as no recording of Triton covers it."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from tensorhub.errors import InvalidArgument, TensorhubError
from tensorhub.protocol import messages
from tensorhub.protocol.generate import decode_generate, encode_generate, event, shape_of
from tensorhub.protocol.http_infer import Limits


@pytest.mark.parametrize(
    ("dims", "count", "shape"),
    [
        ((), 1, []),
        ((1,), 1, [1]),
        ((2, 3), 6, [2, 3]),
        ((-1,), 0, [0]),
        ((-1,), 7, [7]),
        ((-1, 4), 8, [2, 4]),
        ((-1, -1), 6, [1, 6]),
        ((-1, 2, -1, 3), 12, [1, 2, 2, 3]),
    ],
)
def test_shapes(dims: Sequence[int], count: int, shape: list[int]) -> None:
    assert shape_of("IN", dims, count) == shape


@pytest.mark.parametrize(("dims", "count"), [((), 2), ((1,), 0), ((2, 3), 5), ((2, 3), 12), ((-1, 4), 6), ((0,), 0)])
def test_counts_that_fit_no_shape(dims: Sequence[int], count: int) -> None:
    with pytest.raises(InvalidArgument, match="The schema can not convert input 'IN' to tensor with proper shape"):
        shape_of("IN", dims, count)


def target(*names: str, batched: bool = False) -> Any:
    config = messages.ModelConfig(name="m", max_batch_size=8 if batched else 0)
    for name in names:
        config.input.add(name=name, data_type="TYPE_INT32", dims=[-1])
    return SimpleNamespace(model="m", config=config)


def test_an_input_called_parameters() -> None:
    with pytest.raises(TensorhubError) as caught:
        decode_generate(b'{"parameters":[1]}', target("parameters"), Limits())
    assert caught.value.message == "Keyword 'parameters' for nested schema also given as input tensor name"


def test_an_input_called_id_is_both() -> None:
    config = messages.ModelConfig(name="m")
    config.input.add(name="id", data_type="TYPE_STRING", dims=[1])
    request, _ = decode_generate(b'{"id":"x"}', SimpleNamespace(model="m", config=config), Limits())
    assert (request.id, request.inputs[0].name, len(request.parameters)) == ("x", "id", 0)


def test_large_tensors_are_apart() -> None:
    body = b'{"A":[%b],"B":[1]}' % b",".join([b"1"] * 100)
    request, large = decode_generate(body, target("A", "B"), Limits(inline_size=100))
    assert [(item.input_index, len(item.data)) for item in large] == [(0, 400)]
    assert list(request.raw_input_contents) == [b"\1\0\0\0"]


def test_tensors_that_are_too_large_together() -> None:
    ones = b"[%b]" % b",".join([b"1"] * 16)
    with pytest.raises(TensorhubError) as caught:
        decode_generate(b'{"A":%b,"B":%b}' % (ones, ones), target("A", "B"), Limits(max_input_size=100))
    assert caught.value.message == (
        "request size of 64 bytes with input 'B' of size 64 bytes exceeds the maximum allowed input size of 100. Use "
        "--http-max-input-size to increase the limit."
    )


def response(**parameters: Any) -> Any:
    made = messages.ModelInferResponse(model_name="m", model_version="1")
    for name, value in parameters.items():
        made.parameters[name].string_param = value
    return made


def test_names_that_collide() -> None:
    made = response(model_name="parameter", OUT="parameter", b="1", A="2")
    for name in ("OUT", "model_version"):
        made.outputs.add(name=name, datatype="INT32", shape=[1])
        made.raw_output_contents.append(b"\1\0\0\0")
    assert encode_generate(made.SerializeToString(), None) == (
        b'{"A":"2","OUT":"parameter","b":"1","model_name":"m","model_version":"1"}'
    )


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "text"),
    [
        ("FP32", [1], b"\0\0\0\0", b"0.0"),
        ("FP64", [1, 1], b"\0\0\0\0\0\0\xf8\x7f", b"NaN"),
        ("BYTES", [1], b"\2\0\0\0a]", b'"a]"'),
        ("BYTES", [2], b"\0\0\0\0\1\0\0\0b", b'["","b"]'),
        ("BOOL", [1], b"\1", b"true"),
        ("INT64", [], b"\1\0\0\0\0\0\0\0", b"1"),
        ("UINT8", [0], b"", b"[]"),
    ],
)
@pytest.mark.parametrize("apart", [True, False])
def test_tensors(datatype: str, shape: list[int], data: bytes, text: bytes, apart: bool) -> None:
    made = response()
    made.outputs.add(name="A", datatype=datatype, shape=shape)
    if not apart:
        made.raw_output_contents.append(data)
    encoded = encode_generate(made.SerializeToString(), [memoryview(data)] if apart else None)
    assert encoded == b'{"A":%b,"model_name":"m","model_version":"1"}' % text


def test_an_event() -> None:
    assert event(b'{"a":1}') == b'data: {"a":1}\n\n'
