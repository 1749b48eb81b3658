"""D13: streams that are given up at any point leave nothing behind either."""

import random
import threading
from contextlib import closing

import grpc
import pytest
import tritonclient.grpc.service_pb2 as pb

from tests.safety.client import Grpc, Http, infer_request, inline_request
from tests.safety.conftest import ARENA_BYTES
from tests.safety.processes import mapped, nothing_is_left, worker
from tests.safety.soak import turns
from tests.serving import RunningServer
from tests.shm.segments import segment
from tests.waiting import wait_until

STREAMS = turns(150, 100_000)
_SIZE = 100_000
_AT_ONCE = 8


def _give_up(rpc: Grpc, requests: list[pb.ModelInferRequest], chance: random.Random, seen: set[str]) -> None:
    """Send some requests on one stream, read some answers, and go at a random point."""
    taken = chance.randrange(len(requests) + 1)
    gate = threading.Event()

    def send() -> object:
        yield from requests
        gate.wait(60)  # the stream stays open until it is given up

    call = rpc.stub.ModelStreamInfer(send(), timeout=60)
    try:
        for _ in range(taken):
            answer = next(call)
            seen.add("answer" if not answer.error_message else "error")
    except grpc.RpcError as exc:
        seen.add(exc.code().name)
    finally:
        if chance.random() < 0.8:
            call.cancel()
        gate.set()
        call.cancel()


@pytest.mark.timeout(7_200)
def test_cancelled_streams(guarded: RunningServer, http: Http, rpc: Grpc) -> None:
    pid = worker(guarded)
    seen: set[str] = set()
    kinds = [inline_request(_SIZE), infer_request("d13s", 0, _SIZE), infer_request("d13s", 0, 64)]
    with segment(b"\1" * _SIZE) as made, nothing_is_left(guarded):
        assert http.register("d13s", made.key, 0, _SIZE)[0] == 200

        def work(seed: int) -> None:
            chance = random.Random(seed)
            client = Grpc(guarded.grpc)
            for _ in range(STREAMS // _AT_ONCE):
                _give_up(client, [chance.choice(kinds) for _ in range(chance.randrange(1, 5))], chance, seen)
            client.close()

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(_AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with closing(Http(guarded.http)) as later:  # the server closes connections that are idle for long
            assert later.unregister("d13s") == 200
            wait_until(lambda: mapped(pid, made.key) == 0, "the last lease is given back")
            size = ARENA_BYTES * 3 // 4
            wait_until(lambda: later.infer_inline(bytes(size))[0] == 200, "the arenas are empty")
    assert "answer" in seen
    assert seen <= {"answer", "CANCELLED"}, seen
    assert worker(guarded) == pid
