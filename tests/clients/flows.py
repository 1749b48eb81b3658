"""What the flows of the stock clients share: a server to talk to, and how a call of either kind is waited for."""

import asyncio
import inspect
import json
import shutil
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException, shared_memory

from tests.serving import EXAMPLE_MODELS, PROJECT, RunningServer, serving

_ECHO = PROJECT / "tests" / "conformance" / "models" / "edges" / "echo"
_SLOW_CONFIG = """backend: "python"
max_batch_size: 0
input [ { name: "SECONDS" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "DONE" data_type: TYPE_FP32 dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""
SLOW_MODEL = """import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    # It takes its time, but no longer than its client waits.
    def execute(self, requests):
        responses = []
        for request in requests:
            seconds = pb_utils.get_input_tensor_by_name(request, "SECONDS").as_numpy()
            end = time.monotonic() + float(seconds[0])
            while time.monotonic() < end and not request.is_cancelled():
                time.sleep(0.005)
            tensors = [pb_utils.Tensor("DONE", seconds)]
            told = {"note": "slept", "times": 1, "awake": True}
            responses.append(pb_utils.InferenceResponse(tensors, parameters=told))
        return responses
"""
_BROUGHT_CONFIG = {
    "backend": "python",
    "max_batch_size": 0,
    "input": [{"name": "SECONDS", "data_type": "TYPE_FP32", "dims": [1]}],
    "output": [{"name": "DONE", "data_type": "TYPE_FP32", "dims": [1]}],
}
ROW = np.arange(16, dtype=np.int32).reshape(1, 16)

Client = Any
Flow = Callable[[Client], Awaitable[None]]
Run = Callable[[Flow], None]


async def value(result: Any) -> Any:
    """Return what a call gave: the asyncio client's calls have to be awaited."""
    return await result if inspect.isawaitable(result) else result


async def refusal(call: Callable[[], Any]) -> str:
    """Return the text of the error that a call ends with, in either client."""
    with pytest.raises(InferenceServerException) as caught:
        await value(call())
    return str(caught.value)


def runner(connect: Callable[[], Client]) -> Run:
    """Return what runs a flow with a client that `connect` makes."""

    def run_flow(flow: Flow) -> None:
        async def whole() -> None:
            client = connect()
            try:
                await flow(client)
            finally:
                await value(client.close())

        asyncio.run(whole())

    return run_flow


def tensor(library: ModuleType, name: str, values: np.ndarray[Any, Any], datatype: str, **how: bool) -> Any:
    """Return an input of tritonclient.http or tritonclient.grpc; the sync and the asyncio client share the class."""
    return library.InferInput(name, values.shape, datatype).set_data_from_numpy(values, **how)


def pair(library: ModuleType, **how: bool) -> list[Any]:
    """Return the inputs of add_sub."""
    return [tensor(library, name, ROW, "INT32", **how) for name in ("INPUT0", "INPUT1")]


async def control_models(client: Client, library: ModuleType) -> None:
    """Unload a model, load it, and load one that the client brings along."""
    await value(client.unload_model("add_sub"))
    assert not await value(client.is_model_ready("add_sub"))
    assert "no available versions" in await refusal(lambda: client.infer("add_sub", pair(library)))
    await value(client.load_model("add_sub"))
    assert await value(client.is_model_ready("add_sub"))
    files = {"file:3/model.py": SLOW_MODEL.encode()}
    await value(client.load_model("brought", config=json.dumps(_BROUGHT_CONFIG), files=files))
    nothing = tensor(library, "SECONDS", np.zeros(1, np.float32), "FP32")
    result = await value(client.infer("brought", [nothing], model_version="3"))
    assert result.as_numpy("DONE")[0] == 0
    await value(client.unload_model("brought", unload_dependents=True))
    assert "failed to load 'nobody'" in await refusal(lambda: client.load_model("nobody"))


async def use_system_shared_memory(client: Client, library: ModuleType, registered: Callable[[Any], set[str]]) -> None:
    """Have inputs read from a region and an output written into another one.

    Args:
        registered: the names in what the library's client returns as the status.
    """
    names = [f"{library.__name__}_{kind}" for kind in ("in", "out")]
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
                one = library.InferInput(f"INPUT{index}", [1, 16], "INT32")
                one.set_shared_memory(names[0], ROW.nbytes, ROW.nbytes * index)
                inputs.append(one)
            output = library.InferRequestedOutput("OUTPUT0")
            output.set_shared_memory(names[1], ROW.nbytes)
            result = await value(client.infer("add_sub", inputs, outputs=[output]))
            shown = result.get_output("OUTPUT0")
            assert "data" not in shown if isinstance(shown, dict) else shown.shape == [1, 16]
            assert (shared_memory.get_contents_as_numpy(handles[1], np.int32, [1, 16]) == 2 * ROW).all()
            assert registered(await value(client.get_system_shared_memory_status())) == set(names)
        finally:
            for name in names:
                await value(client.unregister_system_shared_memory(name))
        assert registered(await value(client.get_system_shared_memory_status(""))) == set()


@contextmanager
def explicit_server(work: Path, options: Sequence[str]) -> Iterator[RunningServer]:
    """A server in explicit mode, on copies of the example models, one that reports and one that is slow."""
    models = work / "models"
    for model in (*EXAMPLE_MODELS.iterdir(), _ECHO):
        if model.is_dir():
            shutil.copytree(model, models / model.name, ignore=shutil.ignore_patterns("__pycache__"))
    (models / "slow" / "1").mkdir(parents=True)
    (models / "slow" / "config.pbtxt").write_text(_SLOW_CONFIG)
    (models / "slow" / "1" / "model.py").write_text(SLOW_MODEL)
    with serving(work, ["--model-control-mode=explicit", "--load-model=*", *options], models) as running:
        yield running
