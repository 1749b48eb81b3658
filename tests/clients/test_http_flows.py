"""What people do with the stock HTTP clients, sync and asyncio: each flow is written once and run with both."""

import asyncio
import json
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException, shared_memory

from tests.certificates import Certificates, make_certificates
from tests.clients.flows import ROW, SLOW_MODEL, Client, Flow, Run, explicit_server, refusal, value
from tests.serving import RunningServer, serving


@pytest.fixture(scope="module")
def explicit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with explicit_server(tmp_path_factory.mktemp("flows"), ["--allow-grpc=false"]) as running:
        yield running


@pytest.fixture(params=["http", "http.aio"])
def run(request: pytest.FixtureRequest, explicit: RunningServer) -> Run:
    """Return what runs a flow with a client of the kind."""

    def run_flow(flow: Flow) -> None:
        async def whole() -> None:
            client: Client
            if request.param == "http":
                client = tritonclient.http.InferenceServerClient(explicit.http, concurrency=4)
            else:
                client = tritonclient.http.aio.InferenceServerClient(explicit.http)
            try:
                await flow(client)
            finally:
                await value(client.close())

        asyncio.run(whole())

    return run_flow


def tensor(name: str, values: np.ndarray[Any, Any], datatype: str, **how: bool) -> Any:
    """An input of either client, which share the class."""
    return tritonclient.http.InferInput(name, values.shape, datatype).set_data_from_numpy(values, **how)


def pair(**how: bool) -> list[Any]:
    return [tensor("INPUT0", ROW, "INT32", **how), tensor("INPUT1", ROW, "INT32", **how)]


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
    config = {
        "backend": "python",
        "max_batch_size": 0,
        "input": [{"name": "SECONDS", "data_type": "TYPE_FP32", "dims": [1]}],
        "output": [{"name": "DONE", "data_type": "TYPE_FP32", "dims": [1]}],
    }
    nothing = tensor("SECONDS", np.zeros(1, np.float32), "FP32")

    async def flow(client: Client) -> None:
        await value(client.unload_model("add_sub"))
        assert not await value(client.is_model_ready("add_sub"))
        assert "no available versions" in await refusal(lambda: client.infer("add_sub", pair()))
        await value(client.load_model("add_sub"))
        assert await value(client.is_model_ready("add_sub"))
        entries = {entry["name"]: entry for entry in await value(client.get_model_repository_index())}
        assert entries["add_sub"]["state"] == "READY"
        files = {"file:3/model.py": SLOW_MODEL.encode()}
        await value(client.load_model("brought", config=json.dumps(config), files=files))
        result = await value(client.infer("brought", [nothing], model_version="3"))
        assert result.as_numpy("DONE")[0] == 0
        await value(client.unload_model("brought", unload_dependents=True))
        assert "failed to load 'nobody'" in await refusal(lambda: client.load_model("nobody"))

    run(flow)


def test_system_shared_memory(run: Run) -> None:
    names = [f"flow_{kind}" for kind in ("in", "out")]

    async def flow(client: Client) -> None:
        with ExitStack() as undo:
            handles = []
            for name in names:
                handle = shared_memory.create_shared_memory_region(name, f"/{name}", ROW.nbytes * 2)
                undo.callback(shared_memory.destroy_shared_memory_region, handle)
                await value(client.register_system_shared_memory(name, f"/{name}", ROW.nbytes * 2))
                handles.append(handle)
            try:
                shared_memory.set_shared_memory_region(handles[0], [ROW, ROW])
                inputs = []
                for index in range(2):
                    one = tritonclient.http.InferInput(f"INPUT{index}", [1, 16], "INT32")
                    one.set_shared_memory("flow_in", ROW.nbytes, ROW.nbytes * index)
                    inputs.append(one)
                output = tritonclient.http.InferRequestedOutput("OUTPUT0")
                output.set_shared_memory("flow_out", ROW.nbytes)
                result = await value(client.infer("add_sub", inputs, outputs=[output]))
                assert "data" not in result.get_output("OUTPUT0")
                found = shared_memory.get_contents_as_numpy(handles[1], np.int32, [1, 16])
                assert (found == 2 * ROW).all()
                status = await value(client.get_system_shared_memory_status())
                assert {"flow_in", "flow_out"} <= {region["name"] for region in status}
            finally:
                for name in names:
                    await value(client.unregister_system_shared_memory(name))
            assert await value(client.get_system_shared_memory_status("")) == []

    run(flow)


def test_statistics(run: Run) -> None:
    async def flow(client: Client) -> None:
        before = (await value(client.get_inference_statistics("add_sub", "1")))["model_stats"][0]["inference_count"]
        await value(client.infer("add_sub", pair()))
        after = (await value(client.get_inference_statistics("add_sub", "1")))["model_stats"][0]["inference_count"]
        assert after == before + 1
        assert len((await value(client.get_inference_statistics()))["model_stats"]) > 1

    run(flow)


def test_many_at_a_time_and_a_request_that_is_too_slow_for_its_client(run: Run, explicit: RunningServer) -> None:
    slow = tensor("SECONDS", np.full(1, 0.7, np.float32), "FP32")

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
