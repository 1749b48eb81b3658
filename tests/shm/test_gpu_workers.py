"""GPU workers as whole processes, on fake GPUs: regions, routing, copies, lost contexts."""

import base64
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc.service_pb2 as pb

from tensorhub.client.shared_memory import SharedMemorySocket
from tests.safety.client import Grpc, Http, infer_request, inline_request
from tests.serving import RunningServer, processes_of, serving
from tests.shm.fake_device import ENVIRON, GPUS, handle_of
from tests.shm.segments import Segment, segment
from tests.waiting import wait_until

MODELS = Path(__file__).parent / "gpu_models"
SIZE = 100_000
LOCKED_SIZE = 1 << 20
SOCKET = f"/tmp/tensorhub-test-gpus-{os.getpid()}.sock"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gpus")


@pytest.fixture(scope="module")
def gpus(work: Path) -> Iterator[RunningServer]:
    """Yield a server with one worker for the processor and one for each of two GPUs."""
    environ = {
        **ENVIRON,
        "TENSORHUB_FAKE_POISON": str(work / "poison"),
        "TENSORHUB_FAKE_ACCOUNT": str(work / "account"),
        "TENSORHUB_FAKE_USED": str(work / "used"),
    }
    (work / "used").write_text("1000000")
    options = [
        "--model-control-mode=explicit",
        "--load-model=*",
        f"--pinned-memory-pool-byte-size={LOCKED_SIZE}",
        "--cache-config=local,size=1048576",
        f"--shm-socket={SOCKET}",
    ]
    with serving(work, options, MODELS, environ=environ) as running:
        yield running
        workers = {str(_worker(running, f"gpu{index}")) for index in range(2)}
    account = [line.split(None, 1) for line in (work / "account").read_text().splitlines()]
    for worker in workers:
        lines = [line for pid, line in account if pid == worker]
        assert lines.count(f"lock {LOCKED_SIZE}") == lines.count("unlock") == 1, "locked pages are unlocked at the end"


@pytest.fixture
def http(gpus: RunningServer) -> Iterator[Http]:
    client = Http(gpus.http)
    yield client
    client.close()


@pytest.fixture
def rpc(gpus: RunningServer) -> Iterator[Grpc]:
    client = Grpc(gpus.grpc)
    yield client
    client.close()


def _register(http: Http, name: str, made: Segment, gpu: int, size: int = SIZE, device: int = 0) -> tuple[int, str]:
    handle = base64.b64encode(handle_of(made.key, gpu)).decode()
    document = {"raw_handle": {"b64": handle}, "device_id": device, "byte_size": size}
    status, body = http.ask("POST", f"/v2/cudasharedmemory/region/{name}/register", document)
    return status, "" if status == 200 else json.loads(body)["error"]


def _unregister(http: Http) -> None:
    assert http.ask("POST", "/v2/cudasharedmemory/unregister")[0] == 200
    assert json.loads(http.ask("GET", "/v2/cudasharedmemory/status")[1]) == []


def _worker(server: RunningServer, name: str) -> int:
    assert server.run_dir is not None
    found = [pid for pid, command in processes_of(server.run_dir).items() if f"--name {name} " in command]
    return found[0] if len(found) == 1 else 0


def _infer(rpc: Grpc, model: str, region: str, size: int = 64, offset: int = 0) -> Any:
    code, answer = rpc.ask("ModelInfer", infer_request(region, offset, size, model=model))
    assert code == "OK", answer
    return answer


def _await_served(http: Http, rpc: Grpc, model: str) -> None:
    """Wait until both frontends serve a model whose worker has died.

    That it is ready says nothing: who has not heard of the death yet says so, too.
    """
    wait_until(
        lambda: (
            http.infer_inline(b"x", model=model)[0] == 200
            and rpc.ask("ModelInfer", inline_request(1, model))[0] == "OK"
        ),
        f"{model} is back",
    )


def test_each_worker_sees_its_own_gpu_and_no_other(gpus: RunningServer) -> None:
    for index, uuid in enumerate(GPUS):
        environ = Path(f"/proc/{_worker(gpus, f'gpu{index}')}/environ").read_bytes().split(b"\0")
        assert f"CUDA_VISIBLE_DEVICES={uuid}".encode() in environ
    environ = Path(f"/proc/{_worker(gpus, 'cpu0')}/environ").read_bytes()
    assert b"CUDA_VISIBLE_DEVICES" not in environ


def test_register_status_unregister(gpus: RunningServer, http: Http, rpc: Grpc) -> None:
    with segment(bytes(SIZE)) as made:
        assert _register(http, "c", made, gpu=1, device=5) == (200, "")
        assert _register(http, "c", made, gpu=1)[1] == "shared memory region 'c' already in manager"
        status = json.loads(http.ask("GET", "/v2/cudasharedmemory/region/c/status")[1])
        assert status == [{"name": "c", "device_id": 5, "byte_size": SIZE}]
        over_grpc = rpc.ask("CudaSharedMemoryStatus", pb.CudaSharedMemoryStatusRequest())[1]
        assert over_grpc.regions["c"].device_id == 5
        assert rpc.ask("CudaSharedMemoryUnregister", pb.CudaSharedMemoryUnregisterRequest(name="c"))[0] == "OK"
        request = pb.CudaSharedMemoryRegisterRequest(
            name="c", raw_handle=handle_of(made.key, 0), device_id=0, byte_size=SIZE
        )
        assert rpc.ask("CudaSharedMemoryRegister", request)[0] == "OK"
        _unregister(http)


def test_registrations_that_fail(gpus: RunningServer, http: Http, rpc: Grpc) -> None:
    with segment(bytes(SIZE)) as made:
        status, text = _register(http, "c", made, gpu=0, size=SIZE + 1)
        assert status == 400
        assert f"It is to have {SIZE + 1} bytes, and its allocation has {SIZE}" in text
        for length in (0, 1, 63, 65, 128):
            request = pb.CudaSharedMemoryRegisterRequest(name="c", raw_handle=bytes(length), byte_size=1)
            code, text = rpc.ask("CudaSharedMemoryRegister", request)
            assert code == "INVALID_ARGUMENT"
            assert f"has 64 bytes, this one has {length}" in text
        request = pb.CudaSharedMemoryRegisterRequest(name="c", raw_handle=os.urandom(64), device_id=3, byte_size=1)
        code, text = rpc.ask("CudaSharedMemoryRegister", request)
        assert code == "INVALID_ARGUMENT"
        assert "No GPU of this worker takes the handle" in text
        assert "The client calls the device 3" in text
        for name in ("c", "d"):
            assert _register(http, name, made, gpu=0) == (200, ""), "nothing is left of what failed"
        _unregister(http)


def test_one_open_for_each_process_and_handle(gpus: RunningServer, http: Http, work: Path) -> None:
    with segment(bytes(SIZE)) as made:
        before = len((work / "account").read_text().splitlines())
        for name in ("a", "b", "c"):
            assert _register(http, name, made, gpu=0) == (200, "")
        opened = (work / "account").read_text().splitlines()[before:]
        assert opened == [f"{_worker(gpus, 'gpu0')} open {made.key[1:]}"]
        _unregister(http)
        assert (work / "account").read_text().splitlines()[before + 1 :] == [f"{_worker(gpus, 'gpu0')} close"]


def test_inputs_are_views_and_outputs_are_written_in_place(http: Http, rpc: Grpc) -> None:
    with segment(bytes([7]) * SIZE) as source, segment(bytes(SIZE)) as target:
        assert _register(http, "in", source, gpu=0) == _register(http, "out", target, gpu=0) == (200, "")
        answer = _infer(rpc, "views", "in", 64, 32)
        assert answer.raw_output_contents[0] == bytes([8]) * 64
        parameters = answer.parameters
        assert not parameters["is_cpu"].bool_param
        assert not parameters["output_is_cpu"].bool_param
        assert parameters["refused"].string_param == "Tensor is stored in GPU and cannot be converted to NumPy."
        assert (parameters["kind"].string_param, parameters["device"].string_param) == ("GPU", "0")
        request = infer_request("in", 0, 256, model="views")
        request.outputs[0].parameters["shared_memory_region"].string_param = "out"
        request.outputs[0].parameters["shared_memory_byte_size"].int64_param = 256
        request.outputs[0].parameters["shared_memory_offset"].int64_param = 128
        code, answer = rpc.ask("ModelInfer", request)
        assert code == "OK", answer
        assert target.content == bytes(128) + bytes([8]) * 256 + bytes(SIZE - 384)
        request.outputs[0].parameters["shared_memory_byte_size"].int64_param = 255
        code, text = rpc.ask("ModelInfer", request)
        assert code == "INTERNAL"
        assert "should be at least 256 bytes to hold the results" in text
        _unregister(http)


def _copies(server: RunningServer) -> float:
    """How many inputs have been copied from a GPU to the host, by all workers."""
    client = Http(server.metrics)
    _, page = client.ask("GET", "/metrics")
    client.close()
    lines = [line for line in page.decode().splitlines() if line.startswith("tensorhub_device_copies{")]
    return sum(float(line.split()[-1]) for line in lines)


def test_statistics_tell_what_a_model_has_taken_of_its_gpu(gpus: RunningServer, http: Http, rpc: Grpc) -> None:
    def usage(model: str) -> list[dict[str, Any]]:
        status, body = http.ask("GET", f"/v2/models/{model}/stats")
        assert status == 200, body
        found: list[dict[str, Any]] = json.loads(body)["model_stats"][0]["memory_usage"]
        return found

    assert usage("identity_cpu") == []
    for _ in range(2):  # alone: of loads at the same time it is not known
        assert http.ask("POST", "/v2/repository/models/weights/unload")[0] == 200
        assert http.ask("POST", "/v2/repository/models/weights/load")[0] == 200
        assert usage("weights") == [{"type": "GPU", "id": 1, "byte_size": 4096}]


def test_models_that_want_the_hosts_memory_get_it(gpus: RunningServer, http: Http, rpc: Grpc) -> None:
    before = _copies(gpus)
    with segment(bytes([7]) * SIZE) as source:
        assert _register(http, "in", source, gpu=0) == (200, "")
        answer = _infer(rpc, "hosted", "in")
        assert answer.raw_output_contents[0] == bytes([8]) * 64
        assert answer.parameters["is_cpu"].bool_param
        assert source.content == bytes([7]) * SIZE, "the model wrote to a copy"
        assert _infer(rpc, "identity_cpu", "in").raw_output_contents[0] == bytes([7]) * 64
        wait_until(lambda: _copies(gpus) == before + 2, "both copies are counted", account=before)
        _infer(rpc, "identity_gpu", "in")
        _unregister(http)
    assert _copies(gpus) == before + 2


def _said(answer: Any) -> dict[str, bool]:
    return {name: item.bool_param for name, item in answer.parameters.items()}


def test_calls_leave_tensors_where_they_are_for_models_that_want_that(http: Http, rpc: Grpc) -> None:
    with segment(bytes([7]) * SIZE) as source:
        assert _register(http, "in", source, gpu=0) == (200, "")
        request = infer_request("in", 0, 64, model="calls")
        del request.outputs[:]
        code, answer = rpc.ask("ModelInfer", request)
        assert code == "OK", answer
        assert list(answer.raw_output_contents) == [bytes([8]) * 64] * 2
        answers = {"from_views_is_cpu": False, "from_hosted_is_cpu": True}
        assert _said(answer) == {"is_cpu": False, "views_is_cpu": False, "hosted_is_cpu": True, **answers}
        for model in ("chain_views", "chain_hosted"):
            assert _infer(rpc, model, "in").raw_output_contents[0] == bytes([9]) * 64
        assert source.content == bytes([7]) * SIZE
        _unregister(http)


def test_a_model_chooses_where_the_outputs_of_its_calls_are(http: Http, rpc: Grpc) -> None:
    with segment(bytes([7]) * SIZE) as source:
        assert _register(http, "in", source, gpu=0) == (200, "")
        said = {name: item.string_param for name, item in _infer(rpc, "prefers", "in").parameters.items()}
        unknown = "preferred_memory names device 7, and the devices of this process are [0]"
        assert said == {
            "views default": "gpu 8",
            "views cpu": "cpu 8",
            "views gpu": "gpu 8",
            "views unknown": unknown,
            "hosted default": "cpu 8",
            "hosted cpu": "cpu 8",
            "hosted gpu": "gpu 8",
            "hosted unknown": unknown,
            "identity_cpu default": "cpu 7",  # on a worker of the processor
            "identity_cpu cpu": "cpu 7",
            "identity_cpu gpu": "gpu 7",
            "identity_cpu unknown": unknown,
        }
        assert source.content == bytes([7]) * SIZE
        _unregister(http)


def test_a_step_on_a_gpu_may_write_to_its_input_and_to_nothing_else(http: Http, rpc: Grpc) -> None:
    """One tensor on the GPU, two steps that add one to it in place: neither sees what the other one writes."""
    with segment(bytes([7]) * SIZE) as source:
        assert _register(http, "in", source, gpu=0) == (200, "")
        request = infer_request("in", 0, 64, model="fork_in_place")
        del request.outputs[:]
        for _ in range(3):
            code, answer = rpc.ask("ModelInfer", request)
            assert code == "OK", answer
            assert list(answer.raw_output_contents) == [bytes([9]) * 64] * 2
        assert source.content == bytes([7]) * SIZE
        _unregister(http)


def test_where_inputs_are_is_a_parameter_of_the_model(http: Http, rpc: Grpc) -> None:
    def load(value: str) -> tuple[int, str]:
        config = {
            "backend": "python",
            "max_batch_size": 0,
            "input": [{"name": "INPUT0", "data_type": "TYPE_UINT8", "dims": [-1]}],
            "output": [{"name": "OUTPUT0", "data_type": "TYPE_UINT8", "dims": [-1]}],
            "instance_group": [{"kind": "KIND_GPU", "gpus": [0]}],
            "parameters": {"FORCE_CPU_ONLY_INPUT_TENSORS": {"string_value": value}},
        }
        document = {"parameters": {"config": json.dumps(config)}}
        status, body = http.ask("POST", "/v2/repository/models/hosted/load", document)
        return status, body.decode()

    with segment(bytes([7]) * SIZE) as source:
        assert _register(http, "in", source, gpu=0) == (200, "")
        assert load("yes")[0] == 200
        assert _infer(rpc, "hosted", "in").parameters["is_cpu"].bool_param
        for value in ("maybe", "NO", ""):
            status, text = load(value)
            assert status == 400
            assert f"Incorrect value for FORCE_CPU_ONLY_INPUT_TENSORS: {value}'" in text
            assert _infer(rpc, "hosted", "in").parameters["is_cpu"].bool_param, "the old one serves"
        assert load("no")[0] == 200
        code, text = rpc.ask("ModelInfer", infer_request("in", 0, 64, model="hosted"))
        assert code == "INTERNAL"
        assert "Tensor is stored in GPU and cannot be converted to NumPy." in text
        assert http.ask("POST", "/v2/repository/models/hosted/load")[0] == 200
        assert _infer(rpc, "hosted", "in").parameters["is_cpu"].bool_param
        _unregister(http)


def test_a_cached_answer_is_of_what_was_in_the_region(http: Http, rpc: Grpc) -> None:
    with segment(bytes([7]) * SIZE) as made:
        assert _register(http, "in", made, gpu=0) == (200, "")
        for value in (7, 9, 7, 9, 9):
            made.path.write_bytes(bytes([value]) * SIZE)
            assert _infer(rpc, "cached", "in").raw_output_contents[0] == bytes([value]) * 64

        def counted() -> tuple[int, int]:
            [entry] = json.loads(http.ask("GET", "/v2/models/cached/stats")[1])["model_stats"]
            statistics = entry["inference_stats"]
            return statistics["cache_miss"]["count"], statistics["cache_hit"]["count"]

        wait_until(lambda: counted() == (2, 3), "misses and hits are counted", account=counted)
        _unregister(http)


def test_mixed_requests(http: Http, rpc: Grpc) -> None:
    """System in, CUDA out; CUDA in, system out; inline in, CUDA out."""
    with segment(bytes([7]) * SIZE) as device, segment(bytes([3]) * SIZE) as host:
        assert _register(http, "device", device, gpu=0) == (200, "")
        assert http.register("host", host.key, 0, SIZE)[0] == 200
        for model in ("identity_gpu", "views", "hosted", "identity_cpu"):
            plus = 0 if model.startswith("identity") else 1
            for source, target, value in (("host", device, 3), ("device", host, 7), ("", device, 5)):
                device.path.write_bytes(bytes([7]) * SIZE)
                host.path.write_bytes(bytes([3]) * SIZE)
                request = infer_request(source, 0, 64, model=model)
                if not source:
                    del request.inputs[0].parameters["shared_memory_region"]
                    del request.inputs[0].parameters["shared_memory_offset"]
                    del request.inputs[0].parameters["shared_memory_byte_size"]
                    request.raw_input_contents.append(bytes([5]) * 64)
                name = "device" if target is device else "host"
                request.outputs[0].parameters["shared_memory_region"].string_param = name
                request.outputs[0].parameters["shared_memory_byte_size"].int64_param = 64
                request.outputs[0].parameters["shared_memory_offset"].int64_param = 1_000
                code, answer = rpc.ask("ModelInfer", request)
                assert code == "OK", (model, source, answer)
                assert target.content[1_000:1_065] == bytes([value + plus]) * 64 + bytes([7 if name == "device" else 3])
        assert http.unregister("host") == 200
        _unregister(http)


def test_regions_are_made_for_outputs_on_a_gpu(http: Http, rpc: Grpc) -> None:
    with segment(bytes([7]) * SIZE) as source, SharedMemorySocket(SOCKET) as memory:
        assert _register(http, "in", source, gpu=0) == (200, "")
        for model in ("identity_gpu", "views", "hosted", "identity_cpu"):
            request = infer_request("in", 0, SIZE, model=model)
            request.outputs[0].parameters["shared_memory_allocate"].bool_param = True
            code, answer = rpc.ask("ModelInfer", request)
            assert code == "OK", (model, answer)
            with memory.take(answer.outputs[0]) as region:
                assert region.byte_size == SIZE
                assert (region.tensor() == (7 if model.startswith("identity") else 8)).all()
        _unregister(http)


def test_requests_go_to_the_gpu_of_their_region(gpus: RunningServer, http: Http, rpc: Grpc) -> None:
    """identity_gpu is on both GPUs: each request is served where its region is, so nothing is copied or refused."""
    with segment(bytes([1]) * SIZE) as first, segment(bytes([2]) * SIZE) as second:
        assert _register(http, "on0", first, gpu=0) == _register(http, "on1", second, gpu=1) == (200, "")
        for _ in range(20):
            for region, value in (("on0", 1), ("on1", 2)):
                assert _infer(rpc, "identity_gpu", region).raw_output_contents[0] == bytes([value]) * 64
                assert http.infer(region, 0, 64, model="identity_gpu") == (200, bytes([value]) * 64)
        assert _infer(rpc, "identity_gpu1", "on1").raw_output_contents[0] == bytes([2]) * 64
        _unregister(http)


def _to(request: Any, region: str, size: int, offset: int = 0) -> Any:
    """Have the output of a request written to a region."""
    request.outputs[0].parameters["shared_memory_region"].string_param = region
    request.outputs[0].parameters["shared_memory_byte_size"].int64_param = size
    request.outputs[0].parameters["shared_memory_offset"].int64_param = offset
    return request


def test_tensors_on_another_gpu_are_copied(gpus: RunningServer, http: Http, rpc: Grpc) -> None:
    """By the worker of that GPU, in and out, and counted."""
    before = _copies(gpus)
    with segment(bytes([1]) * SIZE) as first, segment(bytes([2]) * SIZE) as second:
        assert _register(http, "on0", first, gpu=0) == _register(http, "on1", second, gpu=1) == (200, "")
        # identity_gpu1 is on GPU 1 only.
        assert _infer(rpc, "identity_gpu1", "on0").raw_output_contents[0] == bytes([1]) * 64
        assert http.infer("on0", 0, SIZE, model="identity_gpu1") == (200, bytes([1]) * SIZE)
        code, answer = rpc.ask(
            "ModelInfer", _to(infer_request("on1", 0, 500, model="identity_gpu1"), "on0", 600, offset=1_000)
        )
        assert code == "OK", answer
        assert first.content == bytes([1]) * 1_000 + bytes([2]) * 500 + bytes([1]) * (SIZE - 1_500)
        # views is on GPU 0 only, and takes its inputs wherever they are.
        code, answer = rpc.ask("ModelInfer", _to(infer_request("on1", 0, 300, model="views"), "on1", 300, offset=9_000))
        assert code == "OK", answer
        assert answer.parameters["is_cpu"].bool_param
        assert second.content[9_000:9_301] == bytes([3]) * 300 + bytes([2])
        wait_until(lambda: _copies(gpus) == before + 5, "each copy is counted", account=before)
        code, text = rpc.ask("ModelInfer", _to(infer_request("on1", 0, 300, model="views"), "on1", 299))
        assert code == "INTERNAL"
        assert "should be at least 300 bytes to hold the results" in text
        _unregister(http)


def test_a_gpu_whose_worker_dies_while_another_needs_it(gpus: RunningServer, http: Http, rpc: Grpc) -> None:
    with segment(bytes([1]) * SIZE) as made:
        assert _register(http, "on0", made, gpu=0) == (200, "")
        assert _infer(rpc, "identity_gpu1", "on0").raw_output_contents[0] == bytes([1]) * 64
        dead, other = _worker(gpus, "gpu0"), _worker(gpus, "gpu1")
        os.kill(dead, signal.SIGKILL)
        code, answer = rpc.ask("ModelInfer", infer_request("on0", 0, 64, model="identity_gpu1"))
        assert code in ("OK", "UNAVAILABLE"), answer
        wait_until(
            lambda: rpc.ask("ModelInfer", infer_request("on0", 0, 64, model="identity_gpu1"))[0] == "OK", "it is back"
        )
        assert _worker(gpus, "gpu1") == other
        _await_served(http, rpc, "views")
        _unregister(http)


def _locked(server: RunningServer) -> tuple[float, float]:
    """How many bytes are locked, and how many of them in use."""
    client = Http(server.metrics)
    _, page = client.ask("GET", "/metrics")
    client.close()
    values = dict(line.split() for line in page.decode().splitlines() if line.startswith("nv_pinned_memory_pool"))
    return float(values["nv_pinned_memory_pool_total_bytes"]), float(values["nv_pinned_memory_pool_used_bytes"])


def test_inline_tensors_go_through_locked_pages(gpus: RunningServer, http: Http, rpc: Grpc) -> None:
    wait_until(lambda: _locked(gpus) == (2 * LOCKED_SIZE, 0), "both workers have locked pages")
    for size, locked in ((SIZE, True), (64, False), (LOCKED_SIZE - 4_096, True), (LOCKED_SIZE + 1, False)):
        request = pb.ModelInferRequest(model_name="hosted", raw_input_contents=[bytes([5]) * size])
        request.inputs.add(name="INPUT0", datatype="UINT8", shape=[size])
        code, answer = rpc.ask("ModelInfer", request)
        assert code == "OK", answer
        assert answer.raw_output_contents[0] == bytes([6]) * size
        assert answer.parameters["locked"].bool_param == locked, size
    with segment(bytes([7]) * SIZE) as source:
        assert _register(http, "in", source, gpu=0) == (200, "")
        # An output of a GPU goes back through the same pages.
        assert http.infer("in", 0, SIZE, model="views") == (200, bytes([8]) * SIZE)
        _unregister(http)
    wait_until(lambda: _locked(gpus) == (2 * LOCKED_SIZE, 0), "all of it is free again")


def test_a_gpu_worker_that_dies_comes_back_with_its_regions(gpus: RunningServer, http: Http, rpc: Grpc) -> None:
    with segment(bytes([1]) * SIZE) as made:
        assert _register(http, "r", made, gpu=0) == (200, "")
        dead, other = _worker(gpus, "gpu0"), _worker(gpus, "gpu1")
        os.kill(dead, signal.SIGKILL)
        wait_until(lambda: _worker(gpus, "gpu0") not in (0, dead), "another worker")
        _await_served(http, rpc, "views")
        assert _infer(rpc, "views", "r").raw_output_contents[0] == bytes([2]) * 64
        assert _worker(gpus, "gpu1") == other
        _unregister(http)


def test_a_lost_context_ends_its_worker_and_no_other(gpus: RunningServer, http: Http, rpc: Grpc, work: Path) -> None:
    with segment(bytes([1]) * SIZE) as made:
        assert _register(http, "r", made, gpu=1) == (200, "")
        before = {name: _worker(gpus, name) for name in ("cpu0", "gpu0", "gpu1")}
        request = pb.ModelInferRequest(model_name="hosted", raw_input_contents=[bytes([13])])
        request.inputs.add(name="INPUT0", datatype="UINT8", shape=[1])
        code, text = rpc.ask("ModelInfer", request)
        assert code == "INTERNAL"
        assert _worker(gpus, "gpu0") == before["gpu0"], "an error of the model alone is no reason to end"
        (work / "poison").touch()
        code, text = rpc.ask("ModelInfer", request)
        assert code in ("INTERNAL", "UNAVAILABLE"), text
        wait_until(lambda: _worker(gpus, "gpu0") not in (0, before["gpu0"]), "the worker is started again")
        (work / "poison").unlink()
        assert _infer(rpc, "identity_gpu1", "r").raw_output_contents[0] == bytes([1]) * 64
        _await_served(http, rpc, "hosted")
        assert {name: _worker(gpus, name) for name in ("cpu0", "gpu1")} == {
            name: before[name] for name in ("cpu0", "gpu1")
        }
        _unregister(http)


def test_a_client_that_frees_its_memory(gpus: RunningServer, http: Http) -> None:
    """The worker that comes later cannot open it: the region is dropped, as with system memory."""
    with segment(bytes([1]) * SIZE) as made:
        assert _register(http, "r", made, gpu=0) == (200, "")
        made.path.unlink()
        dead = _worker(gpus, "gpu0")
        os.kill(dead, signal.SIGKILL)
        wait_until(lambda: json.loads(http.ask("GET", "/v2/cudasharedmemory/status")[1]) == [], "it is dropped")
