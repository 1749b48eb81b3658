"""Tensors in shared memory without a client library: posix_ipc, mmap, and JSON over http.client.

One segment holds all tensors. The server has to be on this host.

    pip install posix_ipc numpy
    python system_shared_memory_plain.py [--url localhost:8000]
"""

import argparse
import http.client
import json
import mmap
import os

import numpy as np
import posix_ipc

BYTE_SIZE = 16 * 4
"""Of one INT32 tensor with the shape [1, 16]."""


def post(connection: http.client.HTTPConnection, path: str, content: dict) -> dict:
    """Send JSON, and return the JSON that comes back."""
    connection.request("POST", path, json.dumps(content), {"Content-Type": "application/json"})
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise SystemExit(f"{path}: {json.loads(body)['error']}")
    return json.loads(body) if body else {}


def region(name: str, index: int) -> dict:
    """Return the parameters that put a tensor into the region: the index counts tensors from its start."""
    return {
        "shared_memory_region": name,
        "shared_memory_byte_size": BYTE_SIZE,
        "shared_memory_offset": index * BYTE_SIZE,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="localhost:8000")
    connection = http.client.HTTPConnection(parser.parse_args().url, timeout=30)

    name = f"example_plain_{os.getpid()}"
    segment = posix_ipc.SharedMemory(f"/{name}", posix_ipc.O_CREX, size=4 * BYTE_SIZE)
    try:
        with mmap.mmap(segment.fd, segment.size) as memory:
            segment.close_fd()
            # Four tensors, one after the other. They are views: what is written here is in the segment.
            first, second, total, difference = np.frombuffer(memory, np.int32).reshape(4, 16)
            first[:] = range(16)
            second[:] = 1

            path = f"/v2/systemsharedmemory/region/{name}"
            post(connection, f"{path}/register", {"key": f"/{name}", "byte_size": 4 * BYTE_SIZE})
            try:
                tensor = {"datatype": "INT32", "shape": [1, 16]}
                request = {
                    "inputs": [
                        {"name": "INPUT0", **tensor, "parameters": region(name, 0)},
                        {"name": "INPUT1", **tensor, "parameters": region(name, 1)},
                    ],
                    "outputs": [
                        {"name": "OUTPUT0", "parameters": region(name, 2)},
                        {"name": "OUTPUT1", "parameters": region(name, 3)},
                    ],
                }
                post(connection, "/v2/models/add_sub/infer", request)
            finally:
                post(connection, f"{path}/unregister", {})

            assert (total == first + second).all()
            assert (difference == first - second).all()
            print("sum       ", total)
            print("difference", difference)
            # A mapping with views on it cannot be closed.
            del first, second, total, difference
    finally:
        posix_ipc.unlink_shared_memory(f"/{name}")
        connection.close()


if __name__ == "__main__":
    main()
