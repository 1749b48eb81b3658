"""What people do with the stock HTTP clients, sync and asyncio: each flow is written once and run with both."""

import asyncio
import json
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

from tests.certificates import Certificates, make_certificates
from tests.clients import flows
from tests.clients.flows import ROW, Client, Run, explicit_server, refusal, runner, value
from tests.serving import RunningServer, serving


@pytest.fixture(scope="module")
def explicit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with explicit_server(tmp_path_factory.mktemp("flows"), ["--allow-grpc=false"]) as running:
        yield running


@pytest.fixture(params=["http", "http.aio"])
def run(request: pytest.FixtureRequest, explicit: RunningServer) -> Run:
    """Return what runs a flow with a client of the kind."""
    if request.param == "http":
        return runner(lambda: tritonclient.http.InferenceServerClient(explicit.http, concurrency=4))
    return runner(lambda: tritonclient.http.aio.InferenceServerClient(explicit.http))


tensor = partial(flows.tensor, tritonclient.http)
pair = partial(flows.pair, tritonclient.http)


def test_health_and_metadata(run: Run) -> None:
    async def flow(client: Client) -> None:
        assert await value(client.is_server_live())
        assert await value(client.is_server_ready())
        assert await value(client.is_model_ready("add_sub"))
        assert await value(client.is_model_ready("add_sub", "1"))
        assert not await value(client.is_model_ready("nobody"))
        assert (await value(client.get_server_metadata()))["name"] == "triton"
        assert (await value(client.get_model_metadata("add_sub")))["inputs"][0]["datatype"] == "INT32"
        assert (await value(client.get_model_config("add_sub", "1")))["name"] == "add_sub"
        assert "unknown model: 'nobody'" in await refusal(lambda: client.get_model_metadata("nobody"))

    run(flow)


@pytest.mark.parametrize("binary", [True, False])
def test_numbers(run: Run, binary: bool) -> None:
    async def flow(client: Client) -> None:
        outputs = [tritonclient.http.InferRequestedOutput(name, binary_data=binary) for name in ("OUTPUT0", "OUTPUT1")]
        inputs = pair(binary_data=binary)
        result = await value(client.infer("add_sub", inputs, outputs=outputs, request_id="mine", model_version="1"))
        assert (result.as_numpy("OUTPUT0") == 2 * ROW).all()
        assert (result.as_numpy("OUTPUT1") == 0).all()
        assert result.get_response()["id"] == "mine"
        assert result.get_response()["model_version"] == "1"
        only = await value(client.infer("add_sub", inputs, outputs=outputs[:1]))
        assert only.as_numpy("OUTPUT1") is None

    run(flow)


@pytest.mark.parametrize("binary", [True, False])
def test_strings(run: Run, binary: bool) -> None:
    texts = np.array([["abc", "", "w\u00f6rld", "x" * 1000]], dtype=np.object_)

    async def flow(client: Client) -> None:
        result = await value(client.infer("reverse_text", [tensor("TEXT", texts, "BYTES", binary_data=binary)]))
        found = [item.decode() if isinstance(item, bytes) else item for item in result.as_numpy("REVERSED")[0]]
        assert found == [text[::-1] for text in texts[0]]

    run(flow)


@pytest.mark.parametrize("request_kind", [None, "gzip", "deflate"])
@pytest.mark.parametrize("response_kind", [None, "gzip", "deflate"])
def test_compression(run: Run, request_kind: str | None, response_kind: str | None) -> None:
    data = np.zeros(100_000, np.float32)

    async def flow(client: Client) -> None:
        for inputs, model in ((pair(), "add_sub"), ([tensor("INPUT0", data, "FP32")], "identity")):
            result = await value(
                client.infer(
                    model,
                    inputs,
                    request_compression_algorithm=request_kind,
                    response_compression_algorithm=response_kind,
                )
            )
            assert result.as_numpy("OUTPUT0") is not None

    run(flow)


def test_parameters(run: Run) -> None:
    async def flow(client: Client) -> None:
        one = tensor("INPUT0", np.array([5], np.int32), "INT32")
        given = {"text": "a", "number": 7, "flag": True, "real": 1.5}
        result = await value(
            client.infer("echo", [one], parameters=given, priority=2, timeout=5_000_000, request_id="r", sequence_id=9)
        )
        report = json.loads(result.as_numpy("REPORT")[0])
        assert {name: report["parameters"][name] for name in given} == given
        assert (report["id"], report["correlation_id"], report["timeout"]) == ("r", 9, 5_000_000)
        assert "triton_" in await refusal(lambda: client.infer("echo", [one], parameters={"triton_x": 1}))
        # The clients themselves refuse the names that have arguments of their own.
        assert "reserved" in await refusal(lambda: client.infer("echo", [one], parameters={"sequence_id": 1}))

    run(flow)


def test_parameters_of_an_answer(run: Run) -> None:
    async def flow(client: Client) -> None:
        result = await value(client.infer("slow", [tensor("SECONDS", np.zeros(1, np.float32), "FP32")]))
        assert result.get_response()["parameters"] == {"note": "slept", "times": 1, "awake": True}

    run(flow)


def test_a_sequence(run: Run) -> None:
    async def flow(client: Client) -> None:
        for sequence in (77, "a name"):
            totals = []
            for number, last in ((1, False), (2, False), (3, True)):
                one = tensor("VALUE", np.array([[number]], np.int64), "INT64")
                place: dict[str, Any] = {"sequence_id": sequence, "sequence_start": number == 1, "sequence_end": last}
                result = await value(client.infer("running_total", [one], **place))
                totals.append(int(result.as_numpy("TOTAL")[0, 0]))
            assert totals == [1, 3, 6]
        lost = tensor("VALUE", np.array([[1]], np.int64), "INT64")
        assert "must specify the START flag" in await refusal(
            lambda: client.infer("running_total", [lost], sequence_id=78)
        )

    run(flow)


def test_a_decoupled_model_is_refused(run: Run) -> None:
    text = tensor("TEXT", np.array(["some words"], dtype=np.object_), "BYTES")

    async def flow(client: Client) -> None:
        assert "decoupled" in await refusal(lambda: client.infer("word_by_word", [text]))

    run(flow)


def test_settings_of_log_and_traces(run: Run) -> None:
    async def flow(client: Client) -> None:
        before = await value(client.get_log_settings())
        changed = await value(client.update_log_settings({"log_verbose_level": 2}))
        assert changed == {**before, "log_verbose_level": 2}
        assert await value(client.update_log_settings({"log_verbose_level": 0})) == before
        assert (await value(client.update_trace_settings("add_sub", {"trace_rate": "7"})))["trace_rate"] == "7"
        assert (await value(client.get_trace_settings()))["trace_rate"] == "1000"
        assert (await value(client.update_trace_settings("add_sub", {"trace_rate": None})))["trace_rate"] == "1000"

    run(flow)


def test_headers_and_queries(run: Run) -> None:
    async def flow(client: Client) -> None:
        extra: dict[str, Any] = {"headers": {"X-Mine": "1"}, "query_params": {"a": ["b", "c"], "d": 1}}
        assert await value(client.is_server_live(**extra))
        assert (await value(client.get_server_metadata(**extra)))["name"] == "triton"
        assert (await value(client.infer("add_sub", pair(), **extra))).as_numpy("OUTPUT0") is not None

    run(flow)


def test_classes(run: Run) -> None:
    async def flow(client: Client) -> None:
        wanted = tritonclient.http.InferRequestedOutput("OUTPUT0", class_count=3)
        result = await value(client.infer("add_sub", pair(), outputs=[wanted]))
        assert result.as_numpy("OUTPUT0").shape == (1, 3)
        assert [item.decode() for item in result.as_numpy("OUTPUT0")[0]] == ["30:15", "28:14", "26:13"]

    run(flow)


def test_model_control(run: Run) -> None:
    async def flow(client: Client) -> None:
        await flows.control_models(client, tritonclient.http)
        entries = {entry["name"]: entry for entry in await value(client.get_model_repository_index())}
        assert entries["add_sub"]["state"] == "READY"

    run(flow)


def test_system_shared_memory(run: Run) -> None:
    run(
        lambda client: flows.use_system_shared_memory(
            client, tritonclient.http, lambda status: {region["name"] for region in status}
        )
    )


def test_statistics(run: Run) -> None:
    async def flow(client: Client) -> None:
        async def count() -> int:
            found = await value(client.get_inference_statistics("add_sub", "1"))
            return int(found["model_stats"][0]["inference_count"])

        before = await count()
        await value(client.infer("add_sub", pair()))
        while await count() == before:  # a run is counted when it is over, which is after its answer
            await asyncio.sleep(0.01)
        assert len((await value(client.get_inference_statistics()))["model_stats"]) > 1

    run(flow)


def test_many_at_a_time_and_a_request_that_is_too_slow_for_its_client(run: Run, explicit: RunningServer) -> None:
    slow = tensor("SECONDS", np.full(1, 60, np.float32), "FP32")

    async def flow(client: Client) -> None:
        if isinstance(client, tritonclient.http.InferenceServerClient):
            handles = [client.async_infer("add_sub", pair(), request_id=str(number)) for number in range(20)]
            results = [handle.get_result() for handle in handles]
            hasty: Client = tritonclient.http.InferenceServerClient(explicit.http, network_timeout=0.1)
        else:
            calls = [client.infer("add_sub", pair(), request_id=str(number)) for number in range(20)]
            results = await asyncio.gather(*calls)
            hasty = tritonclient.http.aio.InferenceServerClient(explicit.http, conn_timeout=0.1)
        assert [result.get_response()["id"] for result in results] == [str(number) for number in range(20)]
        try:
            with pytest.raises((TimeoutError, InferenceServerException)):
                await value(hasty.infer("slow", [slow]))
        finally:
            await value(hasty.close())
        assert (await value(client.infer("slow", [tensor("SECONDS", np.zeros(1, np.float32), "FP32")]))) is not None

    run(flow)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def test_encryption_of_both_clients(files: Certificates, tmp_path: Path) -> None:
    context = ssl.create_default_context(cafile=str(files.authority))
    options = [
        "--http-use-ssl=true",
        f"--http-server-cert={files.server}",
        f"--http-server-key={files.server_key}",
        "--allow-grpc=false",
    ]

    async def asked(client: Client) -> bool:
        try:
            ready: bool = await value(client.is_server_ready())
            return ready
        finally:
            await value(client.close())

    async def with_both(url: str) -> list[bool]:
        sync = tritonclient.http.InferenceServerClient(url, ssl=True, ssl_options={"ca_certs": str(files.authority)})
        found = [await asked(sync)]
        aio = tritonclient.http.aio.InferenceServerClient(url, ssl=True, ssl_context=context)
        return [*found, await asked(aio)]

    def ready(port: int) -> bool:
        try:
            return all(asyncio.run(with_both(f"127.0.0.1:{port}")))
        except OSError:
            return False

    with serving(tmp_path, options, ready=ready):
        pass
