"""D2: a client that scribbles over its regions while requests run breaks nothing, and reads nobody's bytes."""

import random
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from tests.safety.client import Http
from tests.safety.processes import mapped, nothing_is_left, worker
from tests.safety.soak import turns
from tests.serving import RunningServer
from tests.shm.segments import Segment, segment

SIZE = 4 * 4096
INFERENCES = turns(400, 100_000)
_OWN = (0x11, 0x22, 0x33)


@contextmanager
def _scribbling(made: Segment, patterns: list[bytes]) -> Iterator[None]:
    """Write one pattern after the other over a segment, without a pause."""
    memory = np.memmap(made.path, np.uint8, "r+")
    stop = threading.Event()

    def scribble() -> None:
        arrays = [np.frombuffer(pattern, np.uint8) for pattern in patterns]
        while not stop.is_set():
            for array in arrays:
                memory[: len(array)] = array

    thread = threading.Thread(target=scribble)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_numbers(guarded: RunningServer, http: Http) -> None:
    pid = worker(guarded)
    with segment(bytes([_OWN[0]]) * SIZE) as made, segment(bytes(SIZE)) as other, nothing_is_left(guarded):
        assert http.register("d02", made.key, 0, SIZE)[0] == 200
        assert http.register("d02_other", other.key, 0, SIZE)[0] == 200
        with _scribbling(made, [bytes([value]) * SIZE for value in _OWN]):
            for turn in range(INFERENCES):
                size = 1 + turn * 37 % SIZE
                place = {"shared_memory_region": "d02", "shared_memory_byte_size": SIZE} if turn % 3 == 0 else None
                status, body = http.infer("d02", 0, size, output=place)
                assert status == 200, body
                assert set(body) <= set(_OWN), "a byte that the client has never written"
        assert other.content == bytes(SIZE)
        assert http.unregister("d02") == http.unregister("d02_other") == 200
        assert mapped(pid, made.key) == 0
    assert worker(guarded) == pid


def test_lengths_of_strings(guarded: RunningServer, http: Http) -> None:
    """The lengths inside BYTES change all the time: each request is judged, and served, by one copy of them."""
    count = 16
    chance = random.Random(2)
    good = b"".join(struct.pack("<I", 60) + bytes([value] * 60) for value in _OWN * 6)[: 64 * count]
    lies = [0, 1, 59, 61, 64 * count, 2**31 - 1, 2**31, 2**32 - 1]
    wrong = b"".join(struct.pack("<I", chance.choice(lies)) + b"\x44" * 60 for _ in range(count))
    pid = worker(guarded)
    outcomes = set()
    with segment(good) as made, nothing_is_left(guarded):
        assert http.register("d02", made.key, 0, len(good))[0] == 200
        with _scribbling(made, [good, wrong]):
            for _ in range(INFERENCES):
                status, body = http.infer("d02", 0, len(good), model="text", shape=[count], datatype="BYTES")
                assert status in (200, 400), body
                outcomes.add(status)
                if status == 200:
                    assert len(body) == len(good)
                    lengths = struct.unpack_from("<I", body)
                    assert lengths[0] <= len(good)
        assert http.unregister("d02") == 200
    assert outcomes == {200, 400}, "the client was too slow to disturb anything"
    assert worker(guarded) == pid
