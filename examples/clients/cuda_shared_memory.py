"""Tensors in the memory of a GPU: the server reads and writes it in place, and no tensor goes through the connection.

The server has to see the same GPU, and CuPy has to be installed on its side too (pip install 'tensorhub[cuda]').

    pip install 'tensorhub[cuda]' 'tritonclient[http]'
    python cuda_shared_memory.py [--url localhost:8000]
"""

import argparse
import os
import sys

import tritonclient.http as triton

from tensorhub.client.cuda_memory import CudaMemory

try:
    import cupy

    cupy.cuda.runtime.getDeviceCount()
except ImportError:
    sys.exit("skipped: CuPy is not installed")
except Exception as exc:
    sys.exit(f"skipped: there is no GPU that can be used: {exc}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="localhost:8000")
    url = parser.parse_args().url

    source = cupy.arange(1_000, dtype=cupy.float32)
    target = cupy.zeros(1_000, cupy.float32)
    cupy.cuda.get_current_stream().synchronize()
    with triton.InferenceServerClient(url) as client:
        names = f"example_in_{os.getpid()}", f"example_out_{os.getpid()}"
        places = CudaMemory.of(source), CudaMemory.of(target)
        try:
            for name, place in zip(names, places, strict=True):
                client.register_cuda_shared_memory(name, place.base64_handle, place.device_id, place.byte_size)
            tensor = triton.InferInput("INPUT0", [1_000], "FP32")
            tensor.set_shared_memory(names[0], places[0].tensor_byte_size, offset=places[0].offset)
            output = triton.InferRequestedOutput("OUTPUT0")
            output.set_shared_memory(names[1], places[1].tensor_byte_size, offset=places[1].offset)
            client.infer("identity", [tensor], outputs=[output])
        finally:
            for name in names:
                client.unregister_cuda_shared_memory(name)
    assert bool((source == target).all())
    print("the same  ", target[:8])


if __name__ == "__main__":
    main()
