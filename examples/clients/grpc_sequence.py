"""Two sequences, step by step over one stream: each has its own running total.

tensorhub serve --model-repository=examples/models
python examples/clients/grpc_sequence.py --url localhost:8001
"""

import argparse
from queue import SimpleQueue

import numpy as np
import tritonclient.grpc as grpcclient

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--url", default="localhost:8001", help="where the server's gRPC is")
url = parser.parse_args().url

answers: SimpleQueue = SimpleQueue()
values = {"apples": [1, 2, 3, 4], "pears": [10, 20, 30, 40]}
totals: dict[str, list[int]] = {name: [] for name in values}

with grpcclient.InferenceServerClient(url) as client:
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    for number in range(4):
        for name, steps in values.items():
            value = grpcclient.InferInput("VALUE", [1, 1], "INT64")
            value.set_data_from_numpy(np.array([[steps[number]]], np.int64))
            client.async_stream_infer(
                "running_total",
                [value],
                request_id=name,
                sequence_id=name,
                sequence_start=number == 0,
                sequence_end=number == 3,
            )
    for _ in range(8):
        result, error = answers.get(timeout=30)
        if error is not None:
            raise SystemExit(f"failed: {error}")
        totals[result.get_response().id].append(int(result.as_numpy("TOTAL")[0, 0]))
    client.stop_stream()

for name, found in totals.items():
    print(f"{name:10} {found}")
