"""Send requests at the same time: the server runs them together. Requests of priority 1 go first.

tensorhub serve --model-repository=examples/models
python examples/clients/http_batching.py --url localhost:8000
"""

import argparse

import numpy as np
import tritonclient.http as httpclient

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--url", default="localhost:8000", help="where the server's HTTP is")
url = parser.parse_args().url

with httpclient.InferenceServerClient(url, concurrency=8) as client:
    value = httpclient.InferInput("VALUE", [1, 1], "INT32")
    value.set_data_from_numpy(np.array([[7]], np.int32))
    calls = [
        client.async_infer("batch_report", [value], priority=1 + number % 2, timeout=500_000) for number in range(8)
    ]
    results = [call.get_result() for call in calls]

together = [int(result.as_numpy("ROWS_TOGETHER")[0, 0]) for result in results]
print(f"together   {max(together) > 1}")
print(f"instance   {results[0].as_numpy('INSTANCE')[0, 0].decode()}")
