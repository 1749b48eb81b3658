"""Tensors in memory without a name: its file descriptor goes to the server over a Unix socket, once.

For clients in containers: the socket is all that has to be mounted, and neither /dev/shm nor an IPC namespace is
shared. The server has to be started with --shm-socket=PATH.

    pip install tensorhub 'tritonclient[http]'
    python memory_by_descriptor.py --socket PATH [--url localhost:8000]
"""

import argparse
import os

import numpy as np
import tritonclient.http as triton

from tensorhub.client.shared_memory import FileRegion, SharedMemorySocket


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="localhost:8000")
    parser.add_argument("--socket", required=True, help="the server's --shm-socket")
    arguments = parser.parse_args()

    name = f"example_{os.getpid()}"
    size = 16 * 4
    # Two inputs, then two outputs.
    with (
        FileRegion.create(4 * size) as region,
        SharedMemorySocket(arguments.socket) as memory,
        triton.InferenceServerClient(arguments.url) as client,
    ):
        first, second, total, difference = (region.array("INT32", [1, 16], index * size) for index in range(4))
        first[:] = np.arange(16)
        second[:] = 1
        memory.register(name, region)
        try:
            inputs = [triton.InferInput("INPUT0", [1, 16], "INT32"), triton.InferInput("INPUT1", [1, 16], "INT32")]
            inputs[0].set_shared_memory(name, size)
            inputs[1].set_shared_memory(name, size, offset=size)
            outputs = [triton.InferRequestedOutput("OUTPUT0"), triton.InferRequestedOutput("OUTPUT1")]
            outputs[0].set_shared_memory(name, size, offset=2 * size)
            outputs[1].set_shared_memory(name, size, offset=3 * size)
            client.infer("add_sub", inputs, outputs=outputs)
        finally:
            memory.unregister(name)
        assert (total == first + second).all()
        assert (difference == first - second).all()
        print("sum       ", total[0])
        print("difference", difference[0])


if __name__ == "__main__":
    main()
