"""Streams through a whole server with stock tritonclient: order, cancellation that reaches the model, and what is left.

TENSORHUB_STREAM_REQUESTS says how many requests the soak sends; its real size is 10000.
"""

import asyncio
import http.client
import json
import os
import queue
import random
import re
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests.crash.processes import arenas_mapped, by_kind, open_files
from tests.end_to_end import stream_models
from tests.serving import RunningServer, serving
from tests.waiting import comes_true, wait_until

SOAK_REQUESTS = int(os.environ.get("TENSORHUB_STREAM_REQUESTS", "1500"))
STREAMS = 16
LARGE = 200_000
"""Bytes: more than travels in a message."""

DEADLINE_S = 60


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stream_models.write(tmp_path_factory.mktemp("streams") / "models")


@pytest.fixture(scope="module", params=["reactor", "threads"])
def server(
    request: pytest.FixtureRequest, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    options = [f"--grpc-engine={request.param}", "--metrics-interval-ms=100"]
    with serving(tmp_path_factory.mktemp("streams"), options, repository) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.grpc) as made:
        yield made


def tensor(name: str, value: int) -> triton.InferInput:
    return triton.InferInput(name, [1], "INT32").set_data_from_numpy(np.array([value], np.int32))


def repeat(count: int, delay_us: int = 0, size: int = 0) -> list[triton.InferInput]:
    return [tensor("COUNT", count), tensor("DELAY_US", delay_us), tensor("SIZE", size)]


def slow(size: int, delay_us: int = 0, fill: int = 0) -> list[triton.InferInput]:
    data = np.full([size], fill, np.uint8)
    return [triton.InferInput("DATA", [size], "UINT8").set_data_from_numpy(data), tensor("DELAY_US", delay_us)]


def gauges(server: RunningServer) -> dict[str, float]:
    """What each process says that it holds: open requests and arena bytes."""
    page = urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=DEADLINE_S).read().decode()
    found = re.findall(r'^(tensorhub_(?:open_requests|arena_used_bytes)\{process="[^"]*"\}) (\S+)$', page, re.MULTILINE)
    return {name: float(value) for name, value in found}


def held(server: RunningServer) -> dict[str, float]:
    return {name: value for name, value in gauges(server).items() if value}


def _nothing_is_held(server: RunningServer) -> None:
    wait_until(lambda: not held(server), "no request and no slot is held", account=lambda: held(server))


def cancelled_in_model(server: RunningServer) -> int:
    """How many requests of `repeat` have seen that their client had gone."""
    return _asked(server, -1)


def begun_in_model(server: RunningServer) -> int:
    """How many requests have come to `repeat`."""
    return _asked(server, -2)


def _asked(server: RunningServer, what: int) -> int:
    body = json.dumps({"COUNT": what}).encode()
    request = urllib.request.Request(f"http://{server.http}/v2/models/repeat/generate", body, method="POST")
    return int(json.load(urllib.request.urlopen(request, timeout=DEADLINE_S))["NUMBER"])


class Answers:
    """The callback of a stream, and what it has got."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[Any, Any]] = queue.Queue()

    def __call__(self, result: Any, error: Any) -> None:
        self._queue.put((result, error))

    def next(self) -> Any:
        result, error = self._queue.get(timeout=DEADLINE_S)
        if error is not None:
            raise error
        return result

    def drain(self) -> None:
        """Take answers until there is an error, and raise that."""
        while True:
            self.next()


def test_ten_thousand_decoupled_responses_in_order(client: triton.InferenceServerClient) -> None:
    answers = Answers()
    client.start_stream(answers)
    client.async_stream_infer("repeat", repeat(10_000), request_id="r", enable_empty_final_response=True)
    numbers = []
    while not (result := answers.next()).get_response().parameters["triton_final_response"].bool_param:
        numbers.append(int(result.as_numpy("NUMBER")[0]))
    assert numbers == list(range(10_000))
    client.stop_stream()


def test_large_decoupled_responses(server: RunningServer, client: triton.InferenceServerClient) -> None:
    answers = Answers()
    client.start_stream(answers)
    client.async_stream_infer("repeat", repeat(40, size=LARGE))
    for number in range(40):
        data = answers.next().as_numpy("DATA")
        assert data.shape == (LARGE,)
        assert (data == number).all()
    client.stop_stream()
    _nothing_is_held(server)


def test_a_slow_reader_holds_up_its_own_model_only(server: RunningServer, client: triton.InferenceServerClient) -> None:
    """It is a raw call that is not read; 2 GB would come if nothing stopped them."""
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    request = service_pb2.ModelInferRequest(model_name="repeat")
    for item in repeat(10_000, size=LARGE):
        request.inputs.append(item._get_tensor())
        request.raw_input_contents.append(item._get_content())
    stub = service_pb2_grpc.GRPCInferenceServiceStub(client._channel)
    call = stub.ModelStreamInfer(iter([request]))
    assert next(call).error_message == ""
    used = "arena_used_bytes"
    for _ in range(5):
        result = client.infer("slow", slow(10))
        assert result.as_numpy("DATA").shape == (10,)
        assert all(value < 400 * LARGE for name, value in gauges(server).items() if used in name)
    call.cancel()
    _nothing_is_held(server)


def test_answers_of_ordinary_models_keep_their_order(client: triton.InferenceServerClient) -> None:
    answers = Answers()
    client.start_stream(answers)
    sent = [(index, 20_000 if index % 7 == 0 else 0) for index in range(60)]
    for index, delay_us in sent:
        client.async_stream_infer("slow", slow(1, delay_us, index), request_id=str(index))
    assert [answers.next().get_response().id for _ in sent] == [str(index) for index, _ in sent]
    client.stop_stream()


def test_an_error_does_not_end_the_stream(client: triton.InferenceServerClient) -> None:
    answers = Answers()
    client.start_stream(answers)
    client.async_stream_infer("nobody", slow(1), request_id="a")
    with pytest.raises(InferenceServerException, match="Request for unknown model: 'nobody' is not found"):
        answers.next()
    client.async_stream_infer("slow", slow(3), request_id="b")
    assert answers.next().get_response().id == "b"
    client.stop_stream()


def test_a_cancelled_stream_reaches_the_model(server: RunningServer, client: triton.InferenceServerClient) -> None:
    before = cancelled_in_model(server)
    answers = Answers()
    client.start_stream(answers)
    client.async_stream_infer("repeat", repeat(10_000_000, delay_us=100))
    answers.next()
    client.stop_stream(cancel_requests=True)
    wait_until(lambda: cancelled_in_model(server) == before + 1, "the model sees it")
    _nothing_is_held(server)


def test_a_stream_timeout_reaches_the_model(server: RunningServer, client: triton.InferenceServerClient) -> None:
    begun, cancelled = begun_in_model(server), cancelled_in_model(server)

    def has_begun() -> bool:
        """Whether the model has had the request when its time is up: a machine that stands still uses it up as well."""
        answers = Answers()
        client.start_stream(answers, stream_timeout=3)
        client.async_stream_infer("repeat", repeat(10_000_000, delay_us=1000))
        with pytest.raises(InferenceServerException) as caught:
            answers.drain()
        assert "DEADLINE_EXCEEDED" in str(caught.value.status())
        client.stop_stream()
        return begun_in_model(server) > begun

    wait_until(has_begun, "a request comes to the model in time")
    wait_until(lambda: cancelled_in_model(server) - cancelled == begun_in_model(server) - begun, "the model sees it")


def test_a_call_timeout_leaves_nothing(server: RunningServer, client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer("slow", slow(LARGE, 500_000), client_timeout=0.1)
    assert "DEADLINE_EXCEEDED" in str(caught.value.status())
    _nothing_is_held(server)


def test_a_cancelled_call_leaves_the_queue(
    server: RunningServer, client: triton.InferenceServerClient, repository: Path
) -> None:
    """Those that wait are gone while those that run go on, of which each instance has one."""
    gate = repository / "slow" / "open"

    def at_the_worker() -> float:
        return gauges(server)['tensorhub_open_requests{process="cpu0"}']

    done: queue.Queue[Any] = queue.Queue()
    calls = [client.async_infer("slow", slow(1, -1), lambda result, error: done.put(error)) for _ in range(100)]
    try:
        wait_until(lambda: at_the_worker() == 100, "they have arrived", account=at_the_worker)
        for call in calls:
            call.cancel()
        assert all(done.get(timeout=DEADLINE_S) is not None for _ in calls)
        wait_until(lambda: at_the_worker() == stream_models.INSTANCES, "the others have gone", account=at_the_worker)
    finally:
        gate.touch()
    _nothing_is_held(server)
    gate.unlink()


def test_compressed_and_with_keepalive(server: RunningServer) -> None:
    options = triton.KeepAliveOptions(keepalive_time_ms=60_000, keepalive_permit_without_calls=True)
    with triton.InferenceServerClient(server.grpc, keepalive_options=options) as made:
        for algorithm in ("gzip", "deflate"):
            result = made.infer("slow", slow(LARGE, fill=7), compression_algorithm=algorithm)
            assert (result.as_numpy("DATA") == 7).all()
        answers = Answers()
        made.start_stream(answers, compression_algorithm="gzip", headers={"some": "header"})
        made.async_stream_infer("slow", slow(LARGE, fill=3))
        assert (answers.next().as_numpy("DATA") == 3).all()
        made.stop_stream()


async def _drain(stream: AsyncIterator[Any]) -> None:
    async for _ in stream:
        pass


def test_the_asynchronous_client(server: RunningServer) -> None:
    async def requests(count: int) -> AsyncIterator[dict[str, Any]]:
        for index in range(count):
            yield {"model_name": "slow", "inputs": slow(5, 1_000 * (index % 3), index), "request_id": str(index)}
        yield {"model_name": "repeat", "inputs": repeat(20), "request_id": "r"}

    async def run() -> None:
        async with triton_aio.InferenceServerClient(server.grpc) as made:
            seen = []
            async for result, error in made.stream_infer(requests(30)):
                assert error is None
                seen.append(result.get_response().id)
            assert [item for item in seen if item != "r"] == [str(index) for index in range(30)]
            assert seen.count("r") == 20
            stream = made.stream_infer(requests(1))
            await anext(stream)
            stream.cancel()
            with pytest.raises(asyncio.CancelledError):
                await _drain(stream)
            with pytest.raises(InferenceServerException, match="Deadline"):
                await made.infer("slow", slow(1, 1_000_000), client_timeout=0.1)

    asyncio.run(run())
    _nothing_is_held(server)


def test_a_client_that_leaves_generate_reaches_the_model(server: RunningServer) -> None:
    begun, before = begun_in_model(server), cancelled_in_model(server)
    host, _, port = server.http.partition(":")
    for verb in ("generate", "generate_stream"):
        connection = http.client.HTTPConnection(host, int(port), timeout=DEADLINE_S)
        body = json.dumps({"COUNT": 10_000_000, "DELAY_US": 100})
        connection.request("POST", f"/v2/models/repeat/{verb}", body)
        if verb == "generate_stream":
            response = connection.getresponse()
            assert response.readline() == b'data: {"DATA":[],"NUMBER":0,"model_name":"repeat","model_version":"1"}\n'
            response.close()
        else:
            wait_until(lambda: begun_in_model(server) == begun + 1, "it has arrived")
        connection.close()
    wait_until(lambda: cancelled_in_model(server) == before + 2, "the model sees it")
    _nothing_is_held(server)


def _use(url: str, seed: int, count: int, failures: list[str]) -> None:
    """Send `count` requests over streams, one after the other, of which some are cancelled in the middle."""
    chance = random.Random(seed)
    left = count
    while left:
        with triton.InferenceServerClient(url) as made:
            answers = Answers()
            made.start_stream(answers)
            batch = min(left, chance.randrange(1, 60))
            left -= batch
            expected: Counter[str] = Counter()
            for index in range(batch):
                size = chance.choice((1, 100, LARGE))
                if chance.random() < 0.3:
                    responses = chance.randrange(5)
                    expected["d"] += responses
                    made.async_stream_infer("repeat", repeat(responses, chance.randrange(100), size), request_id="d")
                else:
                    expected[str(index)] += 1
                    made.async_stream_infer("slow", slow(size, chance.randrange(300)), request_id=str(index))
            wanted = chance.randrange(expected.total() + 1) if chance.random() < 0.5 else expected.total()
            seen = [answers.next().get_response().id for _ in range(wanted)]
            plain = [int(item) for item in seen if item != "d"]
            if plain != sorted(plain) or Counter(seen) - expected:
                failures.append(f"{seen} of {expected}")
            made.stop_stream(cancel_requests=wanted < expected.total())


def test_many_requests_over_many_streams_with_cancellations_leave_nothing(server: RunningServer) -> None:
    def holdings() -> dict[int, tuple[Counter[str], int]]:
        kinds = by_kind(server)
        return {
            pid: (Counter(open_files(pid)), arenas_mapped(pid))
            for pid in (*kinds["worker"], *kinds["grpc"], *kinds["hub"])
        }

    failures: list[str] = []

    def soak(count: int) -> None:
        threads = [
            threading.Thread(target=_use, args=(server.grpc, seed, count // STREAMS, failures))
            for seed in range(STREAMS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    # What is opened once, such as ZeroMQ's descriptors at the first word between two processes, may be opened late;
    # a leak grows each time.
    soak(10 * STREAMS)
    for _ in range(3):
        _nothing_is_held(server)
        before = holdings()
        began_s = time.monotonic()
        soak(SOAK_REQUESTS)
        print(f"{SOAK_REQUESTS} requests over {STREAMS} streams in {time.monotonic() - began_s:.0f} s")
        assert failures == []
        _nothing_is_held(server)
        if comes_true(lambda before=before: holdings() == before, 20.0):  # type: ignore[misc]
            return
    pytest.fail(f"descriptors or mappings grow: {before} have become {holdings()}")
