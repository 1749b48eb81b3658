"""Tensors in shared memory with tritonclient: the request names them, and no tensor goes through the connection.

The server has to be on this host. A stock Triton also has to be told --allow-client-shm=true, if it knows that option.

    pip install 'tritonclient[http]'
    python system_shared_memory.py [--url localhost:8000]
"""

import argparse
import os

import numpy as np
import tritonclient.http as triton
import tritonclient.utils.shared_memory as shm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="localhost:8000")
    url = parser.parse_args().url

    first = np.arange(16, dtype=np.int32).reshape(1, 16)
    second = np.ones((1, 16), np.int32)
    size = first.nbytes
    # The names are this process's own, so that two of these programs do not meet.
    in_name, out_name = f"example_in_{os.getpid()}", f"example_out_{os.getpid()}"

    # Two segments: INPUT0 and INPUT1 one after the other, OUTPUT0 and OUTPUT1 likewise.
    in_segment = shm.create_shared_memory_region(in_name, f"/{in_name}", 2 * size)
    out_segment = shm.create_shared_memory_region(out_name, f"/{out_name}", 2 * size)
    try:
        shm.set_shared_memory_region(in_segment, [first, second])
        with triton.InferenceServerClient(url) as client:
            client.register_system_shared_memory(in_name, f"/{in_name}", 2 * size)
            client.register_system_shared_memory(out_name, f"/{out_name}", 2 * size)
            try:
                run(client, in_name, out_name, size)
            finally:
                # By name: without a name everybody's regions would go.
                client.unregister_system_shared_memory(in_name)
                client.unregister_system_shared_memory(out_name)
        total = shm.get_contents_as_numpy(out_segment, np.int32, [1, 16])
        difference = shm.get_contents_as_numpy(out_segment, np.int32, [1, 16], offset=size)
        assert (total == first + second).all()
        assert (difference == first - second).all()
        print("sum       ", total[0])
        print("difference", difference[0])
    finally:
        shm.destroy_shared_memory_region(in_segment)
        shm.destroy_shared_memory_region(out_segment)


def run(client: triton.InferenceServerClient, in_name: str, out_name: str, size: int) -> None:
    """Run add_sub with all four tensors in shared memory."""
    inputs = [triton.InferInput("INPUT0", [1, 16], "INT32"), triton.InferInput("INPUT1", [1, 16], "INT32")]
    inputs[0].set_shared_memory(in_name, size)
    inputs[1].set_shared_memory(in_name, size, offset=size)
    outputs = [triton.InferRequestedOutput("OUTPUT0"), triton.InferRequestedOutput("OUTPUT1")]
    outputs[0].set_shared_memory(out_name, size)
    outputs[1].set_shared_memory(out_name, size, offset=size)
    client.infer("add_sub", inputs, outputs=outputs)


if __name__ == "__main__":
    main()
