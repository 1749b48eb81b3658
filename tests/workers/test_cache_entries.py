"""Entries as bytes: there and back, and what is not believed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies

from tensorhub import bytes_codec
from tensorhub.protocol import messages
from tensorhub.protocol.model_spec import ModelSpec, OutputSpec
from tensorhub.requests import Tensor
from tensorhub.tensors import DataType
from tensorhub.workers.cache import CacheEntry
from tensorhub.workers.cache_entries import ENTRY_LIMIT, EntryFault, objection, read_entry, write_entry

MAGIC = b"TH1\n"
SPEC = ModelSpec(
    "m",
    1,
    8,
    {},
    {
        "I": OutputSpec("I", DataType.INT32, (-1, 2), batched=True),
        "S": OutputSpec("S", DataType.BYTES, (-1,), batched=True),
        "R": OutputSpec("R", DataType.UINT8, (2, 3), batched=True, reshape=(6,)),
    },
)


def ints(rows: int = 1) -> Tensor:
    return Tensor("I", DataType.INT32, (rows, 1, 2), np.arange(2 * rows, dtype=np.int32))


def texts(*items: bytes) -> Tensor:
    return Tensor("S", DataType.BYTES, (1, len(items)), bytes_codec.serialize(list(items)))


def plain(entry: CacheEntry) -> tuple[Any, ...]:
    return [(item.name, item.datatype, item.shape, bytes(item.data)) for item in entry.outputs], dict(entry.parameters)


def entry(*outputs: Tensor, **parameters: Any) -> CacheEntry:
    return CacheEntry(
        tuple(Tensor(item.name, item.datatype, item.shape, bytes(memoryview(item.data).cast("B"))) for item in outputs),
        parameters,
        complete=True,
    )


@pytest.mark.parametrize("datatype", DataType)
def test_every_datatype_comes_back(datatype: DataType) -> None:
    spec = ModelSpec("m", 1, 0, {}, {"O": OutputSpec("O", datatype, (-1, 3))})
    data = bytes_codec.serialize([b"", b"\0a", b"text"] * 2) if datatype is DataType.BYTES else bytes(range(1, 7)) * 8
    data = data if datatype is DataType.BYTES else data[: 6 * datatype.item_size]
    given_entry = entry(Tensor("O", datatype, (2, 3), data))
    assert plain(read_entry(write_entry(given_entry), spec)) == plain(given_entry)


def test_batches_reshapes_empty_tensors_and_parameters_come_back() -> None:
    kept = entry(
        ints(3),
        texts(),
        Tensor("R", DataType.UINT8, (1, 6), b"123456"),
        flag=True,
        number=-5,
        large=2**63 + 1,
        real=0.5,
        text="é",
    )
    assert plain(read_entry(write_entry(kept), SPEC)) == plain(kept)


@given(
    rows=strategies.integers(0, 5),
    items=strategies.lists(strategies.binary(max_size=40), max_size=6),
    parameters=strategies.dictionaries(
        strategies.text(max_size=5),
        strategies.booleans()
        | strategies.integers(-(2**63), 2**64 - 1)
        | strategies.floats(allow_nan=False)
        | strategies.text(max_size=5),
        max_size=3,
    ),
)
def test_whatever_a_model_may_say_comes_back(rows: int, items: list[bytes], parameters: dict[str, Any]) -> None:
    kept = entry(ints(rows), texts(*items), **parameters)
    assert plain(read_entry(write_entry(kept), SPEC)) == plain(kept)


@given(strategies.data())
def test_what_was_damaged_is_refused_or_still_an_answer_of_the_model(data: strategies.DataObject) -> None:
    whole = write_entry(entry(ints(2), texts(b"abc", b"defg"), name="value"))
    cut = data.draw(strategies.integers(0, len(whole)))
    changed = bytearray(whole)
    for _ in range(data.draw(strategies.integers(0, 4))):
        changed[data.draw(strategies.integers(0, len(whole) - 1))] = data.draw(strategies.integers(0, 255))
    for rubbish in (whole[:cut], bytes(changed), MAGIC + data.draw(strategies.binary(max_size=60))):
        try:
            read = read_entry(rubbish, SPEC)
        except EntryFault:
            continue
        assert objection(read.outputs, SPEC) == ""


def _message(*outputs: tuple[str, str, tuple[int, ...], bytes], contents: int | None = None) -> bytes:
    message = messages.ModelInferResponse()
    for name, datatype, shape, data in outputs:
        message.outputs.add(name=name, datatype=datatype, shape=shape)
        message.raw_output_contents.append(data)
    if contents is not None:
        del message.raw_output_contents[contents:]
    return bytes(MAGIC + message.SerializeToString())


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"rubbish", "does not begin"),
        (MAGIC + b"\xff\xff\xff", "cannot be parsed"),
        (MAGIC + bytes(ENTRY_LIMIT), "has more than"),
        (_message(("I", "INT32", (1, 1, 2), bytes(8)), contents=0), "1 outputs and the contents of 0"),
        (_message(("X", "INT32", (1, 1, 2), bytes(8))), "no output 'X'"),
        (_message(("I", "FP32", (1, 1, 2), bytes(8))), "'I' is of FP32"),
        (_message(("I", "INT32", (1, 1, 2), bytes(8)), ("I", "INT32", (1, 1, 2), bytes(8))), "there twice"),
        (_message(("I", "INT32", (1, 2), bytes(8))), "has the shape"),
        (_message(("I", "INT32", (1, 1, 3), bytes(12))), "has the shape"),
        (_message(("I", "INT32", (-1, -1, 2), bytes(8))), "has the shape"),
        (_message(("I", "INT32", (1, 1, 2), bytes(7))), "other than the bytes"),
        (_message(("I", "INT32", (1, 1, 2), bytes(9))), "other than the bytes"),
        (_message(("I", "INT32", (2**62, 2**62, 2), b"")), "other than the bytes"),
        (_message(("R", "UINT8", (1, 2, 3), bytes(6))), "has the shape"),
        (_message(("S", "BYTES", (1, 2), b"\1\0\0\0a")), "other than the bytes"),
        (_message(("S", "BYTES", (1, 1), b"\1\0\0\0a" * 2)), "other than the bytes"),
        (_message(("S", "BYTES", (1, 1), b"\2\0\0\0a")), "other than the bytes"),
        (_message(("S", "BYTES", (1, 1), b"\1\0\0\0aX")), "other than the bytes"),
        (_message(("S", "BYTES", (2**40, 2**40), b"")), "other than the bytes"),
    ],
)
def test_what_is_no_answer_of_the_model_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(EntryFault, match=text):
        read_entry(data, SPEC)


def test_a_parameter_without_a_value_is_refused() -> None:
    message = messages.ModelInferResponse()
    message.parameters["p"].SetInParent()
    with pytest.raises(EntryFault, match="'p' has no value"):
        read_entry(MAGIC + message.SerializeToString(), SPEC)
