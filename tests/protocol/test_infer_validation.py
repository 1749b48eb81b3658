"""The validator by itself: its quick way never accepts what the complete check refuses, and gives the same request."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorhub.errors import InvalidArgument
from tensorhub.protocol import infer_validation
from tensorhub.protocol.infer_validation import Accepted, GivenInput, InputValidator, prefix
from tensorhub.protocol.model_spec import InputSpec, ModelSpec, OutputSpec, Shape, carry_free
from tensorhub.tensors import DataType

BATCHING = ModelSpec(
    "m",
    1,
    4,
    {
        "A": InputSpec("A", DataType.INT16, (-1, 2), True),
        "B": InputSpec("B", DataType.BYTES, (2,), True, optional=True),
        "SHAPE": InputSpec("SHAPE", DataType.INT8, (1,), optional=True),
        "R": InputSpec("R", DataType.INT8, (-1, 2, 1), True, optional=True, reshape=(-1, 2)),
    },
    {"OUT": OutputSpec("OUT", DataType.INT16, (2,))},
)
PLAIN = ModelSpec("m", 1, 0, {"A": InputSpec("A", DataType.INT16, (-1, 2)), "S": InputSpec("S", DataType.BYTES, (-1,))})

DIMENSIONS = st.sampled_from([-2, -1, 0, 1, 2, 3, 4, 5, 2**31, 2**32, 2**33, 2**62, 2**63 - 1])
SHAPES = st.lists(st.sampled_from([1, 2, 2, 4]) | DIMENSIONS, max_size=4).map(tuple)
TYPES = st.sampled_from(["INT16", "INT16", "BYTES", "INT8", "WHAT", ""])


def strings(count: int) -> bytes:
    return struct.pack("<I", 1) + b"x" if count == 1 else b"".join(struct.pack("<I", 0) for _ in range(count))


DATA = st.sampled_from([bytes(size) for size in (0, 2, 4, 8, 12, 16, 24)]) | st.integers(0, 9).map(strings)


@st.composite
def given_inputs(draw: st.DrawFn) -> list[GivenInput]:
    names = draw(st.lists(st.sampled_from(["A", "B", "SHAPE", "R", "S", "NOPE"]), unique=True, max_size=4))
    return [GivenInput(name, draw(TYPES), draw(SHAPES), draw(DATA)) for name in names]


def verdict(spec: ModelSpec, items: list[GivenInput], requested: list[str]) -> Accepted | str:
    try:
        return infer_validation._check(spec, items, requested, prefix(""))
    except InvalidArgument as error:
        return error.message


def content(accepted: Accepted | str) -> object:
    if isinstance(accepted, str):
        return accepted
    return accepted.batch_size, [
        (tensor.name, tensor.datatype, tensor.shape, tensor.data) for tensor in accepted.inputs.values()
    ]


@given(st.sampled_from([BATCHING, PLAIN]), given_inputs(), st.lists(st.sampled_from(["OUT", "NOPE"]), max_size=1))
def test_the_quick_way_is_only_quicker(spec: ModelSpec, items: list[GivenInput], requested: list[str]) -> None:
    validator = InputValidator(spec)
    expected = verdict(spec, items, requested)
    for _ in range(2):
        try:
            got: Accepted | str = validator.accept(items, requested, "")
        except InvalidArgument as error:
            got = error.message
        assert content(got) == content(expected)


@given(st.integers(1, 4), st.integers(0, 3))
def test_right_requests_take_the_quick_way(rows: int, length: int) -> None:
    item = GivenInput("A", "INT16", (rows, length, 2), bytes(rows * length * 4))
    quick = InputValidator(BATCHING)._accept_usual([item])
    assert quick is not None
    assert quick.batch_size == rows
    assert quick.inputs["A"].shape == (rows, length, 2)


def test_what_is_remembered_is_bounded() -> None:
    validator = InputValidator(PLAIN)
    text = GivenInput("S", "BYTES", (0,), b"")
    for length in range(2000):
        validator.accept([GivenInput("A", "INT16", (length, 2), bytes(length * 4)), text], [], "")
    assert len(validator._meanings["A"]) <= 256


@pytest.mark.parametrize(
    ("source", "target", "shape", "result"),
    [
        ((-1, 2, 1), (-1, 2), (5, 2, 1), (5, 2)),
        ((1,), (), (1,), ()),
        ((-1, -1), (-1, 1, -1), (3, 4), (3, 1, 4)),
        ((4,), (2, 2), (4,), (2, 2)),
    ],
)
def test_free_dimensions_are_carried_over(source: Shape, target: Shape, shape: Shape, result: Shape) -> None:
    assert carry_free(source, target, shape) == result


def test_reshape_keeps_the_batch() -> None:
    items = [GivenInput("A", "INT16", (3, 1, 2), bytes(12)), GivenInput("R", "INT8", (3, 5, 2, 1), bytes(30))]
    assert InputValidator(BATCHING).accept(items, [], "").inputs["R"].shape == (3, 5, 2)
