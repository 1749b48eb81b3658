"""Shared memory of the bench's client: regions that hold the inputs and take the outputs of a workload.

A region has all inputs, or all outputs, end to end. What a request costs at least is a copy from the one region to the
other, so each kind of memory can time that.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import tritonclient.grpc
from tritonclient.utils import InferenceServerException, shared_memory

from tools.bench import leftovers
from tools.bench.errors import BenchError
from tools.bench.payloads import Arrays, Regions, Tensors
from tools.bench.servers import HOST, Server

COPY_SECONDS = 0.3
LEAST_COPIES = 5

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class OpenRegions:
    """Registered regions, the first filled with the inputs.

    Attributes:
        names: what requests call them.
        clear: empties the outputs' region, so that an earlier answer cannot pass for a later one.
        outputs: returns copies of the outputs.
        copy: copies the inputs' region to the outputs' one as a client would by itself, and waits for the end of it.
    """

    names: Regions
    clear: Callable[[], None]
    outputs: Callable[[], Mapping[str, Array]]
    copy: Callable[[], None]

    def copy_seconds(self) -> float:
        """Return the median time of a plain copy from the one region to the other; the outputs' region is cleared."""
        times_s: list[float] = []
        self.copy()
        began = time.perf_counter()
        while time.perf_counter() - began < COPY_SECONDS or len(times_s) < LEAST_COPIES:
            start = time.perf_counter()
            self.copy()
            times_s.append(time.perf_counter() - start)
        self.clear()
        return median(times_s)


@contextmanager
def system(data: Tensors, server: Server, label: str) -> Iterator[OpenRegions]:
    """Make, fill and register two segments by the stock client; unregister and remove them at the end."""
    names = Regions(f"bench_{label}_in", f"bench_{label}_out")
    with ExitStack() as stack:
        stock = _stock(server, stack)
        views = []
        for name, arrays in ((names.source, data.inputs), (names.target, data.outputs)):
            byte_size = _byte_size(arrays)
            key = f"/{leftovers.segment_prefix()}{server.name}_{name}"
            handle = shared_memory.create_shared_memory_region(name, key, byte_size, create_only=True)
            view = [shared_memory.get_contents_as_numpy(handle, np.uint8, [byte_size])]
            views.append(view)
            # The segment cannot be closed while an array looks into it: callbacks run from the last to the first.
            stack.callback(shared_memory.destroy_shared_memory_region, handle)
            stack.callback(view.clear)
            stock.register_system_shared_memory(name, key, byte_size)
            stack.callback(_unregister, stock.unregister_system_shared_memory, name)
        source, target = views
        source[0][:] = _packed(data.inputs)
        target[0][:] = 0
        yield OpenRegions(
            names,
            lambda: target[0].fill(0),
            lambda: _unpacked(target[0].copy(), data.outputs),
            lambda: np.copyto(target[0], source[0]),
        )


@contextmanager
def cuda(data: Tensors, server: Server, label: str) -> Iterator[OpenRegions]:
    """The same with two allocations of the first GPU. The importer of CuPy, of CUDA 12 or 13."""
    import cupy

    from tensorhub.client.cuda_memory import CudaMemory

    names = Regions(f"bench_{label}_in", f"bench_{label}_out")
    with ExitStack() as stack:
        stock = _stock(server, stack)
        arrays = []
        for name, tensors in ((names.source, data.inputs), (names.target, data.outputs)):
            byte_size = _byte_size(tensors)
            # An allocation of its own, and not a part of one of the pool: the region is then the tensor, and no more.
            try:
                pointer = cupy.cuda.MemoryPointer(cupy.cuda.Memory(byte_size), 0)
            except (cupy.cuda.runtime.CUDARuntimeError, MemoryError) as exc:
                raise BenchError(f"no {byte_size} bytes on the GPU: {exc}") from exc
            array = cupy.ndarray((byte_size,), cupy.uint8, pointer)
            memory = CudaMemory.of(array)
            stock.register_cuda_shared_memory(name, memory.base64_handle, memory.device_id, memory.byte_size)
            stack.callback(_unregister, stock.unregister_cuda_shared_memory, name)
            arrays.append(array)
        source, target = arrays
        stream = cupy.cuda.get_current_stream()

        def clear() -> None:
            target.fill(0)
            stream.synchronize()

        def copy() -> None:
            cupy.copyto(target, source)
            stream.synchronize()

        source.set(_packed(data.inputs))
        clear()
        yield OpenRegions(names, clear, lambda: _unpacked(target.get(), data.outputs), copy)


def _stock(server: Server, stack: ExitStack) -> Any:
    stock = tritonclient.grpc.InferenceServerClient(f"{HOST}:{server.ports.grpc}")
    stack.callback(stock.close)
    return stock


def _unregister(unregister: Callable[[str], None], name: str) -> None:
    try:
        unregister(name)
    except InferenceServerException as exc:
        # A server that is gone has no registrations; the memory is let go all the same.
        print(f"cannot unregister {name}: {exc}", file=sys.stderr)


def _byte_size(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays.values())


def _packed(arrays: Arrays) -> Array:
    return np.concatenate([np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays.values()])


def _unpacked(packed: Array, like: Arrays) -> dict[str, Array]:
    found, offset = {}, 0
    for name, array in like.items():
        found[name] = packed[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)
        offset += array.nbytes
    return found
