"""Copies of every size around the one from which they are shared out."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tensorhub.ipc import copying
from tensorhub.ipc.copying import THRESHOLD, fill


@pytest.mark.parametrize("parts", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [0, 1, THRESHOLD - 1, THRESHOLD, THRESHOLD + 1, THRESHOLD + 4097])
def test_all_bytes_and_no_others(size: int, parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_parts", parts)
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    target = bytearray(size + 10)
    fill(memoryview(target), memoryview(data.tobytes()))
    assert target[:size] == data.tobytes()
    assert target[size:] == bytes(10)


def test_a_target_that_cannot_be_written_to() -> None:
    source = memoryview(bytes(THRESHOLD))
    for size in (10, THRESHOLD):
        with pytest.raises((ValueError, TypeError)):
            fill(memoryview(bytes(size)), source[:size])
        with pytest.raises(ValueError, match=r"."):
            fill(memoryview(bytearray(size - 1)), source[:size])


def test_copies_at_the_same_time_do_not_mix() -> None:
    targets = [bytearray(THRESHOLD + 1) for _ in range(4)]
    sources = [bytes([number]) * (THRESHOLD + 1) for number in range(4)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            list(
                pool.map(
                    lambda pair: fill(memoryview(pair[0]), memoryview(pair[1])), zip(targets, sources, strict=True)
                )
            )
            assert targets == sources


def test_a_helper_that_gets_no_turn_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    busy, over = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as helpers:
        monkeypatch.setattr(copying, "_helpers", helpers)
        monkeypatch.setattr(copying, "_parts", 2)
        helpers.submit(lambda: (busy.set(), over.wait(60)))
        assert busy.wait(60)
        source, target = bytes(range(256)) * (THRESHOLD // 128), bytearray(THRESHOLD * 2)
        try:
            fill(memoryview(target), memoryview(source))
            assert target == source
        finally:
            over.set()
