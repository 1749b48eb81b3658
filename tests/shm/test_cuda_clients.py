"""CUDA regions end to end, with the clients that people have: stock tritonclient, CuPy, PyTorch. They need a GPU.

Written for CuPy of CUDA 12 and of CUDA 13 alike: nothing of it depends on the version.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc

from tensorhub.client.cuda_memory import CudaMemory
from tensorhub.client.shared_memory import SystemRegion
from tests.safety.client import Http
from tests.serving import EXAMPLE_MODELS, RunningServer, serving
from tests.shm.gpu import needs_gpu, stock_module
from tests.waiting import wait_until

pytestmark = [pytest.mark.gpu, needs_gpu]

COUNT = 1 << 20

_CLIENT = """
import sys, tritonclient.grpc, tritonclient.utils.cuda_shared_memory as cuda
handle = cuda.create_shared_memory_region("dies", 1 << 20, 0)
client = tritonclient.grpc.InferenceServerClient(sys.argv[1])
client.register_cuda_shared_memory("dies", cuda.get_raw_handle(handle), 0, 1 << 20)
print("registered", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Yield a server with the GPUs of this host, that drops the regions of dead clients."""
    with serving(tmp_path_factory.mktemp("gpus"), ["--shm-reap=true"], EXAMPLE_MODELS) as running:
        yield running


@pytest.fixture
def client(gpus: RunningServer) -> Iterator[Any]:
    with tritonclient.grpc.InferenceServerClient(gpus.grpc) as client:
        yield client
        client.unregister_cuda_shared_memory()


def _identity(client: Any, source: tuple[str, int], target: tuple[str, int], count: int) -> None:
    """Run the identity model from one region to another; each is a name and an offset."""
    tensor = tritonclient.grpc.InferInput("INPUT0", [count], "FP32")
    tensor.set_shared_memory(source[0], count * 4, offset=source[1])
    output = tritonclient.grpc.InferRequestedOutput("OUTPUT0")
    output.set_shared_memory(target[0], count * 4, offset=target[1])
    client.infer("identity", [tensor], outputs=[output])


def test_stock_tritonclient(client: Any) -> None:
    cuda = stock_module()
    values = np.arange(COUNT, dtype=np.float32)
    source = cuda.create_shared_memory_region("in", values.nbytes, 0)
    target = cuda.create_shared_memory_region("out", values.nbytes, 0)
    try:
        cuda.set_shared_memory_region(source, [values])
        client.register_cuda_shared_memory("in", cuda.get_raw_handle(source), 0, values.nbytes)
        client.register_cuda_shared_memory("out", cuda.get_raw_handle(target), 0, values.nbytes)
        _identity(client, ("in", 0), ("out", 0), COUNT)
        assert (cuda.get_contents_as_numpy(target, np.float32, [COUNT]) == values).all()
        client.unregister_cuda_shared_memory()
    finally:
        cuda.destroy_shared_memory_region(source)
        cuda.destroy_shared_memory_region(target)


def _between(client: Any, source: Any, target: Any, count: int) -> None:
    places = CudaMemory.of(source), CudaMemory.of(target)
    names = "tensor_in", "tensor_out"
    for name, place in zip(names, places, strict=True):
        client.register_cuda_shared_memory(name, place.base64_handle, place.device_id, place.byte_size)
    _identity(client, (names[0], places[0].offset), (names[1], places[1].offset), count)
    for name in names:
        client.unregister_cuda_shared_memory(name)


def test_cupy(client: Any) -> None:
    import cupy

    for count in (1, 1_000, COUNT):
        source, target = cupy.arange(count, dtype=cupy.float32), cupy.zeros(count, cupy.float32)
        cupy.cuda.get_current_stream().synchronize()
        _between(client, source, target, count)
        assert bool((source == target).all())


def test_pytorch(client: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch cannot use a GPU")
    source, target = torch.arange(COUNT, dtype=torch.float32, device="cuda"), torch.zeros(COUNT, device="cuda")
    torch.cuda.synchronize()
    _between(client, source, target, COUNT)
    assert bool((source == target).all())


def _free_bytes() -> int:
    import cupy

    return int(cupy.cuda.runtime.memGetInfo()[0])


def test_device_memory_stays_flat(client: Any) -> None:
    import cupy

    memory = CudaMemory.of(cupy.zeros(COUNT, cupy.float32))

    def register() -> None:
        client.register_cuda_shared_memory("flat", memory.base64_handle, memory.device_id, memory.byte_size)
        client.unregister_cuda_shared_memory("flat")

    register()
    before = _free_bytes()
    for _ in range(1_000):
        register()
    assert abs(before - _free_bytes()) < 8 << 20


def test_a_client_that_is_killed(gpus: RunningServer, client: Any) -> None:
    stock_module()
    command = [sys.executable, "-c", _CLIENT, gpus.grpc]
    http = Http(gpus.http)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"registered\n"
        os.kill(process.pid, signal.SIGKILL)
    path = "/v2/cudasharedmemory/status"
    wait_until(lambda: json.loads(http.ask("GET", path)[1]) == [], "the dead client's region is dropped")
    assert http.ask("GET", "/v2/models/identity/ready")[0] == 200
    http.close()


def test_memory_on_another_gpu(tmp_path: Path) -> None:
    """A model on GPU 1 alone, and tensors on GPU 0 and 1: right answers, and what crosses is counted."""
    import cupy

    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("this host has one GPU")
    options = ["--model-control-mode=explicit", "--load-model=identity_gpu1"]
    with (
        serving(tmp_path, options, Path(__file__).parent / "gpu_models") as running,
        tritonclient.grpc.InferenceServerClient(running.grpc) as client,
    ):
        made = {}
        for device, name in ((0, "on0"), (1, "on1")):
            with cupy.cuda.Device(device):
                made[name] = cupy.full(COUNT, device + 1, cupy.uint8)
                cupy.cuda.runtime.deviceSynchronize()
            place = CudaMemory.of(made[name])
            client.register_cuda_shared_memory(name, place.base64_handle, place.device_id, place.byte_size)
        for source, target in (("on0", "on1"), ("on1", "on0"), ("on0", "on0")):
            places = {name: CudaMemory.of(array) for name, array in made.items()}
            tensor = tritonclient.grpc.InferInput("INPUT0", [100], "UINT8")
            tensor.set_shared_memory(source, 100, offset=places[source].offset)
            output = tritonclient.grpc.InferRequestedOutput("OUTPUT0")
            output.set_shared_memory(target, 100, offset=places[target].offset + 1_000)
            expected = made[source][:100].get()
            client.infer("identity_gpu1", [tensor], outputs=[output])
            assert (made[target][1_000:1_100].get() == expected).all()
        http = Http(running.metrics)
        lines = http.ask("GET", "/metrics")[1].decode().splitlines()
        http.close()
        assert sum(float(line.split()[-1]) for line in lines if line.startswith("tensorhub_device_copies{")) >= 4
        client.unregister_cuda_shared_memory()


def _median_seconds(call: Any, turns: int = 20) -> float:
    call()
    taken = []
    for _ in range(turns):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return sorted(taken)[turns // 2]


def _record(line: str) -> None:
    print(line)
    Path("bench-results").mkdir(exist_ok=True)
    with Path("bench-results/gpu.txt").open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def test_latency_beside_system_regions(client: Any) -> None:
    """The same small request, once with CUDA regions and once with system regions."""
    import cupy

    count = 16
    source, target = cupy.zeros(count, cupy.float32), cupy.zeros(count, cupy.float32)
    places = CudaMemory.of(source), CudaMemory.of(target)
    with SystemRegion.create(count * 4) as one, SystemRegion.create(count * 4) as two:
        for name, place, region in zip(("in", "out"), places, (one, two), strict=True):
            client.register_cuda_shared_memory(f"c_{name}", place.base64_handle, place.device_id, place.byte_size)
            client.register_system_shared_memory(f"s_{name}", region.key, region.byte_size)
        on_gpu = _median_seconds(
            lambda: _identity(client, ("c_in", places[0].offset), ("c_out", places[1].offset), count), 500
        )
        on_host = _median_seconds(lambda: _identity(client, ("s_in", 0), ("s_out", 0), count), 500)
        client.unregister_system_shared_memory()
    _record(f"identity {count * 4} bytes: CUDA regions {on_gpu * 1e6:.0f} us, system regions {on_host * 1e6:.0f} us")


@pytest.mark.parametrize("count", [16 << 20, 256 << 20])
def test_bandwidth(client: Any, count: int) -> None:
    """The identity between two regions is one copy on the GPU; the figures belong into docs/performance.md."""
    import cupy

    if _free_bytes() < 3 * count * 4:
        pytest.skip("the GPU has not so much memory free")
    source, target = cupy.zeros(count, cupy.float32), cupy.zeros(count, cupy.float32)
    places = CudaMemory.of(source), CudaMemory.of(target)
    for name, place in zip(("big_in", "big_out"), places, strict=True):
        client.register_cuda_shared_memory(name, place.base64_handle, place.device_id, place.byte_size)

    def copy() -> None:
        cupy.copyto(target, source)
        cupy.cuda.runtime.deviceSynchronize()

    plain = _median_seconds(copy)
    served = _median_seconds(
        lambda: _identity(client, ("big_in", places[0].offset), ("big_out", places[1].offset), count)
    )
    _record(f"identity {count * 4} bytes: copy {plain:.6f} s, served {served:.6f} s, ratio {plain / served:.2f}")
