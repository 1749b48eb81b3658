"""What people do with the stock gRPC clients, sync and asyncio: each flow is written once and run with both."""

import asyncio
import json
import queue
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests.certificates import Certificates, make_certificates
from tests.clients import flows
from tests.clients.flows import ROW, Client, Run, explicit_server, refusal, runner, value
from tests.serving import RunningServer, serving
from tests.waiting import wait_until

_DEADLINE_S = 60

Step = dict[str, Any]
"""Arguments of one request of a stream."""


@pytest.fixture(scope="module", params=["reactor", "threads"])
def explicit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with explicit_server(tmp_path_factory.mktemp("flows"), [f"--grpc-engine={request.param}"]) as running:
        yield running


def connect(kind: str, url: str, **options: Any) -> Client:
    made: Client = (triton if kind == "grpc" else triton_aio).InferenceServerClient(url, **options)
    return made


@pytest.fixture(params=["grpc", "grpc.aio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(kind: str, explicit: RunningServer) -> Run:
    """Return what runs a flow with a client of the kind."""
    return runner(lambda: connect(kind, explicit.grpc))


tensor = partial(flows.tensor, triton)
pair = partial(flows.pair, triton)


async def streamed(client: Client, steps: list[Step], count: int, **options: Any) -> list[tuple[Any, Any]]:
    """Send requests over one stream; return the first `count` answers as (result, error)."""
    if isinstance(client, triton.InferenceServerClient):
        answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
        client.start_stream(lambda result, error: answers.put((result, error)), **options)
        for step in steps:
            client.async_stream_infer(**step)
        try:
            return [answers.get(timeout=_DEADLINE_S) for _ in range(count)]
        finally:
            client.stop_stream()

    async def requests() -> AsyncIterator[Step]:
        for step in steps:
            yield step

    found = []
    async for answer in client.stream_infer(requests(), **options):
        found.append(answer)
    assert len(found) == count
    return found


def test_health_and_metadata(run: Run) -> None:
    async def flow(client: Client) -> None:
        assert await value(client.is_server_live())
        assert await value(client.is_server_ready())
        assert await value(client.is_model_ready("add_sub"))
        assert await value(client.is_model_ready("add_sub", "1"))
        assert not await value(client.is_model_ready("nobody"))
        assert (await value(client.get_server_metadata())).name == "triton"
        assert (await value(client.get_server_metadata(as_json=True)))["name"] == "triton"
        assert (await value(client.get_model_metadata("add_sub"))).inputs[0].datatype == "INT32"
        assert (await value(client.get_model_config("add_sub", "1"))).config.name == "add_sub"
        assert "unknown model: 'nobody'" in await refusal(lambda: client.get_model_metadata("nobody"))

    run(flow)


def test_numbers(run: Run) -> None:
    async def flow(client: Client) -> None:
        outputs = [triton.InferRequestedOutput(name) for name in ("OUTPUT0", "OUTPUT1")]
        result = await value(client.infer("add_sub", pair(), outputs=outputs, request_id="mine", model_version="1"))
        assert (result.as_numpy("OUTPUT0") == 2 * ROW).all()
        assert (result.as_numpy("OUTPUT1") == 0).all()
        assert (result.get_response().id, result.get_response().model_version) == ("mine", "1")
        only = await value(client.infer("add_sub", pair(), outputs=outputs[:1]))
        assert only.as_numpy("OUTPUT1") is None

    run(flow)


def test_strings(run: Run) -> None:
    texts = np.array([["abc", "", "w\u00f6rld", "x" * 1000]], dtype=np.object_)

    async def flow(client: Client) -> None:
        result = await value(client.infer("reverse_text", [tensor("TEXT", texts, "BYTES")]))
        assert [item.decode() for item in result.as_numpy("REVERSED")[0]] == [text[::-1] for text in texts[0]]

    run(flow)


@pytest.mark.parametrize("algorithm", [None, "gzip", "deflate"])
def test_compression(run: Run, algorithm: str | None) -> None:
    data = np.zeros(100_000, np.float32)

    async def flow(client: Client) -> None:
        for inputs, model in ((pair(), "add_sub"), ([tensor("INPUT0", data, "FP32")], "identity")):
            result = await value(client.infer(model, inputs, compression_algorithm=algorithm))
            assert result.as_numpy("OUTPUT0") is not None
        steps = [{"model_name": "identity", "inputs": [tensor("INPUT0", data, "FP32")]}]
        [(result, error)] = await streamed(client, steps, 1, compression_algorithm=algorithm)
        assert error is None
        assert result.as_numpy("OUTPUT0").shape == data.shape

    run(flow)


def test_parameters(run: Run) -> None:
    async def flow(client: Client) -> None:
        one = tensor("INPUT0", np.array([5], np.int32), "INT32")
        given = {"text": "a", "number": 7, "flag": True}
        result = await value(
            client.infer("echo", [one], parameters=given, priority=2, timeout=5_000_000, request_id="r", sequence_id=9)
        )
        report = json.loads(result.as_numpy("REPORT")[0])
        assert {name: report["parameters"][name] for name in given} == given
        assert (report["id"], report["correlation_id"], report["timeout"]) == ("r", 9, 5_000_000)
        assert "triton_" in await refusal(lambda: client.infer("echo", [one], parameters={"triton_x": 1}))
        # The clients themselves refuse the names that have arguments of their own.
        assert "reserved" in await refusal(lambda: client.infer("echo", [one], parameters={"sequence_id": 1}))
        told = await value(client.infer("slow", [tensor("SECONDS", np.zeros(1, np.float32), "FP32")]))
        assert told.get_response(as_json=True)["parameters"]["note"] == {"string_param": "slept"}

    run(flow)


def test_headers(run: Run) -> None:
    async def flow(client: Client) -> None:
        extra: dict[str, Any] = {"headers": {"x-mine": "1"}}
        assert await value(client.is_server_live(**extra))
        assert (await value(client.infer("add_sub", pair(), **extra))).as_numpy("OUTPUT0") is not None

    run(flow)


def test_classes(run: Run) -> None:
    async def flow(client: Client) -> None:
        wanted = triton.InferRequestedOutput("OUTPUT0", class_count=3)
        result = await value(client.infer("add_sub", pair(), outputs=[wanted]))
        assert [item.decode() for item in result.as_numpy("OUTPUT0")[0]] == ["30:15", "28:14", "26:13"]

    run(flow)


def test_model_control(run: Run) -> None:
    async def flow(client: Client) -> None:
        await flows.control_models(client, triton)
        entries = {entry.name: entry for entry in (await value(client.get_model_repository_index())).models}
        assert entries["add_sub"].state == "READY"

    run(flow)


def test_system_shared_memory(run: Run) -> None:
    run(lambda client: flows.use_system_shared_memory(client, triton, lambda status: set(status.regions)))


def test_statistics(run: Run) -> None:
    async def flow(client: Client) -> None:
        async def count() -> int:
            found = await value(client.get_inference_statistics("add_sub", "1"))
            return int(found.model_stats[0].inference_count)

        before = await count()
        await value(client.infer("add_sub", pair()))
        while await count() == before:  # a run is counted when it is over, which is after its answer
            await asyncio.sleep(0.01)
        assert len((await value(client.get_inference_statistics())).model_stats) > 1

    run(flow)


def test_settings_of_log_and_traces(run: Run) -> None:
    async def flow(client: Client) -> None:
        await value(client.update_log_settings({"log_verbose_level": 2}))
        assert (await value(client.get_log_settings())).settings["log_verbose_level"].uint32_param == 2
        await value(client.update_log_settings({"log_verbose_level": 0}))
        await value(client.update_trace_settings("add_sub", {"trace_rate": "7"}))
        assert list((await value(client.get_trace_settings("add_sub"))).settings["trace_rate"].value) == ["7"]
        assert list((await value(client.get_trace_settings())).settings["trace_rate"].value) == ["1000"]
        await value(client.update_trace_settings("add_sub", {"trace_rate": None}))

    run(flow)


def sequence(name: int | str) -> list[Step]:
    return [
        {
            "model_name": "running_total",
            "inputs": [tensor("VALUE", np.array([[number]], np.int64), "INT64")],
            "request_id": f"{name} {number}",
            "sequence_id": name,
            "sequence_start": number == 1,
            "sequence_end": number == 3,
        }
        for number in (1, 2, 3)
    ]


@pytest.mark.parametrize("name", [77, "a name"])
def test_a_sequence(run: Run, name: int | str) -> None:
    async def flow(client: Client) -> None:
        results = [await value(client.infer(**step)) for step in sequence(name)]
        assert [int(result.as_numpy("TOTAL")[0, 0]) for result in results] == [1, 3, 6]
        lost = {**sequence(name)[1], "sequence_id": 78}
        assert "must specify the START flag" in await refusal(lambda: client.infer(**lost))

    run(flow)


def test_two_sequences_in_one_stream(run: Run) -> None:
    async def flow(client: Client) -> None:
        steps = [step for both in zip(sequence(81), sequence("other"), strict=True) for step in both]
        answers = await streamed(client, steps, len(steps))
        assert [error for _, error in answers] == [None] * len(steps)
        totals = {result.get_response().id: int(result.as_numpy("TOTAL")[0, 0]) for result, _ in answers}
        assert totals == {f"{name} {n}": total for name in (81, "other") for n, total in ((1, 1), (2, 3), (3, 6))}

    run(flow)


def test_a_decoupled_model(run: Run) -> None:
    def step(**more: bool) -> Step:
        text = tensor("TEXT", np.array(["three short words"], dtype=np.object_), "BYTES")
        return {"model_name": "word_by_word", "inputs": [text], "request_id": "d", **more}

    async def flow(client: Client) -> None:
        answers = await streamed(client, [step()], 3)
        assert [result.as_numpy("WORD")[0].decode() for result, _ in answers] == ["three", "short", "words"]
        if isinstance(client, triton.InferenceServerClient):  # the other one cannot ask for it
            *words, (last, _) = await streamed(client, [step(enable_empty_final_response=True)], 4)
            assert len(words) == 3
            assert last.get_response().parameters["triton_final_response"].bool_param
            assert not last.get_response().outputs
        assert "decoupled" in await refusal(lambda: client.infer(**step()))

    run(flow)


def test_an_error_in_a_stream(run: Run) -> None:
    async def flow(client: Client) -> None:
        steps = [{"model_name": name, "inputs": pair(), "request_id": name} for name in ("nobody", "add_sub")]
        (nothing, error), (result, none) = await streamed(client, steps, 2)
        assert (nothing, none) == (None, None)
        assert "unknown model: 'nobody'" in str(error)
        assert result.get_response().id == "add_sub"

    run(flow)


def slow(seconds: float) -> list[Any]:
    return [tensor("SECONDS", np.full(1, seconds, np.float32), "FP32")]


def test_many_at_a_time(run: Run) -> None:
    ids = [str(number) for number in range(20)]

    async def flow(client: Client) -> None:
        if isinstance(client, triton.InferenceServerClient):
            answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
            for name in ids:
                client.async_infer(
                    "add_sub", pair(), lambda result, error: answers.put((result, error)), request_id=name
                )
            found = [answers.get(timeout=_DEADLINE_S) for _ in ids]
            assert [error for _, error in found] == [None] * 20
            results = [result for result, _ in found]
        else:
            results = await asyncio.gather(*(client.infer("add_sub", pair(), request_id=name) for name in ids))
        assert {result.get_response().id for result in results} == set(ids)

    run(flow)


def test_a_request_that_is_too_slow_for_its_client(run: Run) -> None:
    async def flow(client: Client) -> None:
        text = await refusal(lambda: client.infer("slow", slow(60), client_timeout=0.1))
        assert "DEADLINE_EXCEEDED" in text
        assert (await value(client.infer("slow", slow(0), client_timeout=_DEADLINE_S))) is not None

    run(flow)


def test_cancellation(run: Run) -> None:
    async def flow(client: Client) -> None:
        if isinstance(client, triton.InferenceServerClient):
            answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
            call = client.async_infer("slow", slow(60), lambda result, error: answers.put((result, error)))
            call.cancel()
            result, error = answers.get(timeout=_DEADLINE_S)
            assert (result, error.status()) == (None, "StatusCode.CANCELLED")
        else:
            task = asyncio.ensure_future(client.infer("slow", slow(60)))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (await value(client.infer("slow", slow(0)))) is not None

    run(flow)


def test_keepalive_and_channel_arguments(kind: str, explicit: RunningServer) -> None:
    alive = triton.KeepAliveOptions(keepalive_time_ms=60_000, keepalive_permit_without_calls=True)
    arguments = [("grpc.keepalive_time_ms", 60_000), ("grpc.lb_policy_name", "pick_first")]

    async def asked(client: Client) -> bool:
        try:
            return (await value(client.infer("add_sub", pair()))).as_numpy("OUTPUT0") is not None
        finally:
            await value(client.close())

    async def whole() -> list[bool]:
        return [
            await asked(connect(kind, explicit.grpc, keepalive_options=alive)),
            await asked(connect(kind, explicit.grpc, channel_args=arguments)),
        ]

    assert asyncio.run(whole()) == [True, True]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("engine", ["reactor", "threads"])
def test_mutual_encryption_of_both_clients(files: Certificates, tmp_path: Path, engine: str) -> None:
    options = [
        f"--grpc-engine={engine}",
        "--grpc-use-ssl-mutual=true",
        f"--grpc-server-cert={files.server}",
        f"--grpc-server-key={files.server_key}",
        f"--grpc-root-cert={files.authority}",
    ]
    own = {"private_key": str(files.client_key), "certificate_chain": str(files.client)}

    async def asked(kind: str, url: str, **more: Any) -> bool:
        client = connect(kind, url, ssl=True, root_certificates=str(files.authority), **more)
        try:
            return bool(await value(client.is_server_ready(client_timeout=60)))
        except InferenceServerException:
            return False
        finally:
            await value(client.close())

    with serving(tmp_path, options) as running:
        for kind in ("grpc", "grpc.aio"):
            wait_until(lambda kind=kind: asyncio.run(asked(kind, running.grpc, **own)), "it is ready")  # type: ignore[misc]
            assert not asyncio.run(asked(kind, running.grpc)), "without a certificate of its own"
