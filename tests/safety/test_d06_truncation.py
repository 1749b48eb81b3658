"""D6: a client that truncates its segment under a running request hurts nobody but itself.

Of another user's segment only copies are read, so that nothing can happen to the worker. Our own user's is mapped, and
the kernel may kill the worker that touches what is no longer there: then its requests fail, the region is dropped, and
everything else goes on.
"""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.other_users import needs_root, run_as
from tests.safety.client import Http
from tests.safety.processes import FOREIGN_UID, nothing_is_left, worker
from tests.safety.soak import turns
from tests.serving import RunningServer
from tests.shm.segments import Segment, segment
from tests.waiting import wait_until

SIZE = 1 << 20
TURNS = turns(5, 1_000)


def _made_by(uid: int, content: bytes) -> Segment:
    """Have a process of another user make a segment, as a client of its own does."""
    made = Segment(b"")
    made.path.unlink()
    run_as(uid, lambda: made.path.write_bytes(content) == len(content))
    assert made.path.stat().st_uid == uid
    return made


@contextmanager
def _in_flight(address: str, region: str, size: int, work: Path) -> Iterator[tuple[Path, list[tuple[int, bytes]]]]:
    """Run a request that has been accepted and has not read its input yet; it does when the gate is made."""
    gate, entered = work / "gate", work / "entered"
    gate.unlink(missing_ok=True)
    entered.unlink(missing_ok=True)
    answers: list[tuple[int, bytes]] = []

    def infer() -> None:
        client = Http(address)
        names = {"gate": str(gate), "entered": str(entered)}
        answers.append(client.infer(region, 0, size, model="gated", parameters=names))
        client.close()

    thread = threading.Thread(target=infer)
    thread.start()
    try:
        wait_until(entered.exists, "the model has the request")
        yield gate, answers
    finally:
        gate.touch()
        thread.join()


@needs_root
def test_another_users_segment(guarded: RunningServer, http: Http, tmp_path: Path) -> None:
    pid = worker(guarded)
    made = _made_by(FOREIGN_UID, b"\1" * SIZE)
    try:
        with nothing_is_left(guarded):
            assert http.register("d06", made.key, 0, SIZE)[0] == 200
            for turn in range(TURNS):
                with _in_flight(guarded.http, "d06", SIZE, tmp_path) as (gate, answers):
                    made.truncate(0 if turn % 2 else SIZE // 2)
                    gate.touch()
                    wait_until(lambda answers=answers: answers, "an answer")  # type: ignore[misc]
                    assert answers == [(200, b"\1" * SIZE)], "it had been copied when it was accepted"
                status, body = http.infer("d06", 0, SIZE)
                assert status == 400, body
                assert b"has become smaller than it was when registered" in body
                made.path.write_bytes(b"\1" * SIZE)
                assert http.infer("d06", 0, SIZE) == (200, b"\1" * SIZE)
            assert http.unregister("d06") == 200
    finally:
        made.path.unlink()
    assert worker(guarded) == pid


@needs_root
def test_another_user_truncates_all_the_time(guarded: RunningServer, http: Http) -> None:
    pid = worker(guarded)
    made = _made_by(FOREIGN_UID, b"\1" * SIZE)
    stop = threading.Event()

    def truncate() -> None:
        while not stop.is_set():
            os.truncate(made.path, 0)
            os.truncate(made.path, SIZE)

    thread = threading.Thread(target=truncate)
    try:
        assert http.register("d06", made.key, 0, SIZE)[0] == 200
        thread.start()
        for turn in range(turns(100, 20_000)):
            place = {"shared_memory_region": "d06", "shared_memory_byte_size": SIZE} if turn % 2 else None
            status, body = http.infer("d06", 0, SIZE, output=place)
            assert status in (200, 400), body
            if status == 200:
                assert set(body) <= {0, 1}
    finally:
        stop.set()
        thread.join()
        http.unregister("d06")
        made.path.unlink()
    assert worker(guarded) == pid


def test_our_own_users_segment(plain: RunningServer, tmp_path: Path) -> None:
    client = Http(plain.http)
    dead = worker(plain)
    with segment(b"\1" * SIZE) as made, segment(b"\2" * SIZE) as other:
        assert client.register("d06", made.key, 0, SIZE)[0] == 200
        assert client.register("d06_other", other.key, 0, SIZE)[0] == 200
        with _in_flight(plain.http, "d06", SIZE, tmp_path) as (gate, answers):
            made.truncate(0)
            gate.touch()
            wait_until(lambda: answers, "an answer")
            status, body = answers[0]
        assert status == 503, body
        assert b"worker process" in body
        wait_until(lambda: client.infer("d06_other", 0, SIZE) == (200, b"\2" * SIZE), "another worker serves")
        assert worker(plain) != dead
        wait_until(lambda: client.regions() == ["d06_other"], "the region that was truncated is dropped")
        assert json.loads(client.infer("d06", 0, SIZE)[1])["error"] == "Unable to find shared memory region: 'd06'"
        assert client.unregister("d06_other") == 200
    client.close()


def test_our_own_users_segment_between_requests(guarded: RunningServer, http: Http) -> None:
    pid = worker(guarded)
    with segment(b"\1" * SIZE) as made:
        assert http.register("d06", made.key, 0, SIZE)[0] == 200
        made.truncate(4096)
        assert http.infer("d06", 0, SIZE)[0] == 400
        assert http.infer("d06", 0, 4096) == (200, b"\1" * 4096)
        assert http.unregister("d06") == 200
    assert worker(guarded) == pid
