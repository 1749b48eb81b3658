"""D5: regions come and go under one name while requests use it: every answer is right or says "not found"."""

import itertools
import json
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.safety.client import Http
from tests.safety.processes import nothing_is_left, worker
from tests.safety.soak import turns
from tests.serving import RunningServer
from tests.shm.segments import Segment, segment

SIZE = 4096
SECONDS = turns(3, 60)
READERS = turns(12, 64)
WRITERS = turns(3, 8)


@pytest.mark.timeout(300 + SECONDS)
def test_readers_against_registrars(guarded: RunningServer) -> None:
    pid = worker(guarded)
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    lock = threading.Lock()
    least_s = time.monotonic() + SECONDS
    segments = [Segment(bytes([1 + index]) * SIZE) for index in range(WRITERS)]
    canaries = {bytes([1 + index]) * SIZE for index in range(WRITERS)}

    def note(what: str, account: str = "") -> None:
        with lock:
            seen[what] += 1
            if account:
                wrong.append(account)

    def enough() -> bool:
        """Whether something has gone wrong, or so much has gone well that it means something, however slowly."""
        done = time.monotonic() > least_s and seen["right"] > 10 and seen["registered"] > 3
        return done or bool(wrong)

    def read() -> None:
        client = Http(guarded.http)
        while not enough():
            status, body = client.infer("d05", 0, SIZE)
            if status == 200:
                note("right") if body in canaries else note("wrong", f"foreign bytes {body[:16]!r}")
            elif status == 404 and b"Unable to find shared memory region: 'd05'" in body:
                note("not found")
            else:
                note("wrong", f"{status} {body!r}")
        client.close()

    def register(mine: Segment) -> None:
        client = Http(guarded.http)
        for turn in itertools.count():
            if enough():
                break
            status, body = client.register("d05", mine.key, 0, SIZE)
            if status != 200 and b"already in manager" not in body:
                note("wrong", f"register: {status} {body!r}")
            note("registered" if status == 200 else "taken")
            if turn % 2 and client.unregister("d05") != 200:
                note("wrong", "unregister")
        client.close()

    threads = [threading.Thread(target=read) for _ in range(READERS)]
    threads += [threading.Thread(target=register, args=(mine,)) for mine in segments]
    client = Http(guarded.http)
    try:
        with nothing_is_left(guarded):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert client.unregister("d05") == 200
            assert client.regions() == []
    finally:
        for made in segments:
            made.path.unlink()
        client.close()
    assert wrong == [], wrong[:5]
    assert worker(guarded) == pid


def test_the_name_is_free_while_a_request_still_reads(guarded: RunningServer, http: Http, tmp_path: Path) -> None:
    """The request in flight ends with the bytes of its own region, and then that memory is let go."""
    gate, entered = tmp_path / "gate", tmp_path / "entered"
    answers: list[tuple[int, bytes]] = []

    def infer() -> None:
        client = Http(guarded.http)
        names = {"gate": str(gate), "entered": str(entered)}
        answers.append(client.infer("d05", 0, SIZE, model="gated", parameters=names))
        client.close()

    with segment(b"\1" * SIZE) as first, segment(b"\2" * SIZE) as second, nothing_is_left(guarded):
        assert http.register("d05", first.key, 0, SIZE)[0] == 200
        thread = threading.Thread(target=infer)
        thread.start()
        deadline = time.monotonic() + 60
        while not entered.exists():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert http.unregister("d05") == 200
        assert json.loads(http.infer("d05", 0, SIZE)[1])["error"] == "Unable to find shared memory region: 'd05'"
        assert http.register("d05", second.key, 0, SIZE)[0] == 200
        assert http.infer("d05", 0, SIZE) == (200, b"\2" * SIZE)
        gate.touch()
        thread.join()
        assert answers == [(200, b"\1" * SIZE)]
        assert http.unregister("d05") == 200
