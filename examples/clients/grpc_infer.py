"""Inference over gRPC with tritonclient: one request, and several at the same time.

pip install 'tritonclient[grpc]'
python grpc_infer.py [--url localhost:8001]
"""

import argparse
import queue

import numpy as np
import tritonclient.grpc as triton

FIRST = np.arange(16, dtype=np.int32).reshape(1, 16)
SECOND = np.ones((1, 16), np.int32)
ANSWER_WITHIN_S = 30


def inputs() -> list[triton.InferInput]:
    return [
        triton.InferInput("INPUT0", FIRST.shape, "INT32").set_data_from_numpy(FIRST),
        triton.InferInput("INPUT1", SECOND.shape, "INT32").set_data_from_numpy(SECOND),
    ]


def one(client: triton.InferenceServerClient) -> None:
    """Send a request and wait for its answer."""
    result = client.infer("add_sub", inputs())
    assert (result.as_numpy("OUTPUT0") == FIRST + SECOND).all()
    print("sum       ", result.as_numpy("OUTPUT0")[0])


def several(client: triton.InferenceServerClient, count: int) -> None:
    """Send many requests before the first answer comes; the callback gets each."""
    answers: queue.Queue = queue.Queue()
    for _ in range(count):
        client.async_infer("add_sub", inputs(), lambda result, error: answers.put((result, error)))
    for _ in range(count):
        result, error = answers.get(timeout=ANSWER_WITHIN_S)
        if error is not None:
            raise error
        assert (result.as_numpy("OUTPUT1") == FIRST - SECOND).all()
    print("at a time ", count, "requests answered")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="localhost:8001")
    url = parser.parse_args().url
    with triton.InferenceServerClient(url) as client:
        one(client)
        several(client, 8)


if __name__ == "__main__":
    main()
