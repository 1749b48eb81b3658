"""An output whose size nobody knows beforehand, in memory that the server makes for it: its descriptor is taken once.

The server has to be started with --shm-socket=PATH. The memory belongs to this process from then on, and is not copied
through the connection.

    pip install tensorhub 'tritonclient[http]'
    python output_by_descriptor.py --socket PATH [--url localhost:8000]
"""

import argparse

import numpy as np
import tritonclient.http as triton

from tensorhub.client.shared_memory import SharedMemorySocket, allocate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="localhost:8000")
    parser.add_argument("--socket", required=True, help="the server's --shm-socket")
    arguments = parser.parse_args()

    with SharedMemorySocket(arguments.socket) as memory, triton.InferenceServerClient(arguments.url) as client:
        inputs = [triton.InferInput(name, [1, 16], "INT32") for name in ("INPUT0", "INPUT1")]
        inputs[0].set_data_from_numpy(np.arange(16, dtype=np.int32).reshape(1, 16))
        inputs[1].set_data_from_numpy(np.ones((1, 16), np.int32))
        outputs = [allocate(triton.InferRequestedOutput("OUTPUT0"))]
        result = client.infer("add_sub", inputs, outputs=outputs)
        with memory.take(result.get_output("OUTPUT0")) as region:
            print(f"{region.byte_size} bytes")
            print("sum", region.tensor()[0])


if __name__ == "__main__":
    main()
