"""The response cache: keys, what is kept, the budget and who has to go."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, strategies

from tensorhub.errors import InternalError
from tensorhub.requests import InferRequest, InferResponse, RequestedOutput, Tensor
from tensorhub.tensors import DataType
from tensorhub.workers.cache import (
    ENTRY_OVERHEAD,
    TENSOR_OVERHEAD,
    CacheEntry,
    CacheKey,
    ResponseCache,
    maybe_digest,
    maybe_entry,
)

ALL: frozenset[str] = frozenset()
COST = ENTRY_OVERHEAD + TENSOR_OVERHEAD


def tensor(name: str, data: Any, shape: tuple[int, ...] = (4,), datatype: DataType = DataType.UINT8) -> Tensor:
    return Tensor(name, datatype, shape, data)


def request(*inputs: Tensor, requested: tuple[str, ...] = (), **fields: Any) -> InferRequest:
    outputs = tuple(RequestedOutput(name) for name in requested)
    return InferRequest("m", 1, "", {item.name: item for item in inputs}, outputs, **fields)


def entry(size: int, *, complete: bool = True) -> CacheEntry:
    return CacheEntry((tensor("O", bytes(size), (size,)),), {}, complete)


def key(number: int, load_id: int = 1) -> CacheKey:
    return CacheKey(load_id, number.to_bytes(4, "little"))


def test_the_digest_is_of_names_datatypes_shapes_and_bytes() -> None:
    usual = maybe_digest(request(tensor("A", b"1234"), tensor("B", b"5678")))
    assert usual == maybe_digest(request(tensor("B", bytearray(b"5678")), tensor("A", memoryview(b"1234"))))
    others = [
        maybe_digest(request(tensor("A", b"1235"), tensor("B", b"5678"))),
        maybe_digest(request(tensor("A", b"1234"), tensor("C", b"5678"))),
        maybe_digest(request(tensor("A", b"1234", (2, 2)), tensor("B", b"5678"))),
        maybe_digest(request(tensor("A", b"1234", (4,), DataType.INT8), tensor("B", b"5678"))),
        maybe_digest(request(tensor("A", b"12345", (5,)), tensor("B", b"678", (3,)))),
        maybe_digest(request(tensor("A", b"1234"))),
    ]
    assert len({usual, *others}) == 7


def test_ids_parameters_and_listed_outputs_are_no_part_of_the_digest() -> None:
    plain = request(tensor("A", b"1234"))
    other = request(tensor("A", b"1234"), requested=("O",), parameters={"p": 1}, priority=3, timeout_us=5)
    other.request_id = "id"
    assert maybe_digest(plain) == maybe_digest(other)


def test_an_array_is_looked_at_as_its_bytes() -> None:
    array = np.arange(4, dtype=np.uint8)
    assert maybe_digest(request(tensor("A", array))) == maybe_digest(request(tensor("A", array.tobytes())))
    empty = np.zeros((0, 3), np.float32)
    assert maybe_digest(request(tensor("A", empty, (0, 3)))) == maybe_digest(request(tensor("A", b"", (0, 3))))


def test_what_is_kept_and_what_is_found_are_copies() -> None:
    data = np.array([1, 2, 3, 4], np.uint8)
    kept = maybe_entry(InferResponse([tensor("O", data)], {"p": 1}), ALL, frozenset({"O"}))
    assert kept is not None
    data[:] = 0
    first = kept.response()
    assert bytes(first.outputs[0].data) == b"\1\2\3\4"
    assert first.parameters == {"p": 1}
    memoryview(first.outputs[0].data)[0] = 9
    assert bytes(kept.response().outputs[0].data) == b"\1\2\3\4"


def test_an_error_is_not_kept() -> None:
    assert maybe_entry(InferResponse(error=InternalError("no")), ALL, frozenset({"O"})) is None


def test_an_entry_answers_only_who_wants_what_it_has() -> None:
    cache = ResponseCache(100_000)
    names = frozenset({"O", "P"})
    part = maybe_entry(InferResponse([tensor("O", b"1234")]), frozenset({"O"}), names)
    assert part is not None
    assert cache.insert(key(1), part)
    assert cache.maybe_find(key(1), frozenset({"O"})) is part
    assert cache.maybe_find(key(1), frozenset({"P"})) is None
    assert cache.maybe_find(key(1), ALL) is None
    whole = maybe_entry(InferResponse([tensor("O", b"1234"), tensor("P", b"5678")]), ALL, names)
    assert whole is not None
    assert cache.insert(key(1), whole)
    assert cache.maybe_find(key(1), frozenset({"P"})) is whole
    assert cache.insert(key(1), part)
    assert cache.maybe_find(key(1), ALL) is whole
    assert len(cache) == 1
    assert cache.used == whole.byte_size


def test_who_was_not_used_for_longest_makes_room() -> None:
    cache = ResponseCache(3 * (COST + 10))
    for number in range(3):
        assert cache.insert(key(number), entry(10))
    assert cache.maybe_find(key(0), ALL) is not None
    assert cache.insert(key(3), entry(10))
    assert [cache.maybe_find(key(number), ALL) is not None for number in range(4)] == [True, False, True, True]
    assert (cache.evictions, len(cache), cache.used) == (1, 3, cache.byte_size)


def test_what_is_larger_than_the_budget_is_not_kept_and_nothing_goes_for_it() -> None:
    cache = ResponseCache(COST + 10)
    assert cache.insert(key(1), entry(10))
    assert not cache.insert(key(2), entry(11))
    assert (len(cache), cache.evictions) == (1, 0)


def test_a_load_that_has_ended_leaves_nothing() -> None:
    cache = ResponseCache(100_000)
    cache.insert(key(1, load_id=1), entry(10))
    cache.insert(key(1, load_id=2), entry(20))
    cache.forget(1)
    assert cache.maybe_find(key(1, load_id=1), ALL) is None
    assert cache.maybe_find(key(1, load_id=2), ALL) is not None
    assert cache.used == COST + 20


@given(
    strategies.lists(
        strategies.tuples(
            strategies.sampled_from(("insert", "find", "forget")),
            strategies.integers(0, 5),
            strategies.integers(0, 2_500),
        )
    )
)
def test_the_budget_is_kept_whatever_comes(steps: list[tuple[str, int, int]]) -> None:
    cache = ResponseCache(4_000)
    held: dict[CacheKey, CacheEntry] = {}
    for what, number, size in steps:
        at = key(number, load_id=number % 2)
        if what == "insert":
            new = entry(size)
            known = cache.maybe_find(at, ALL)
            if cache.insert(at, new):
                held[at] = known or new
        elif what == "find":
            found = cache.maybe_find(at, ALL)
            assert found is None or found is held[at]
        else:
            cache.forget(number % 2)
            held = {at: item for at, item in held.items() if at.load_id != number % 2}
        left = [found for at in held if (found := cache.maybe_find(at, ALL)) is not None]
        assert cache.used == sum(item.byte_size for item in left) <= cache.byte_size
        assert len(cache) == len(left)
