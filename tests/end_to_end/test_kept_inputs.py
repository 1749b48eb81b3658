"""Models that keep inputs beyond their requests, as they may under Triton: what they keep stays as it was."""

from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
import requests
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient

from tests.serving import RunningServer, serving
from tests.waiting import wait_until

SIZE = 50_000
"""Elements of an input that does not travel inside the message."""

_CONFIG = """
backend: "python"
input [ { name: "X" data_type: TYPE_INT32 dims: [ -1 ] } ]
output [ { name: "Y" data_type: TYPE_INT32 dims: [ -1 ] } ]
"""
_KEEPS = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.kept = []

    def execute(self, requests):
        responses = []
        for request in requests:
            self.kept.append(pb_utils.get_input_tensor_by_name(request, "X").as_numpy())
            firsts = np.array([array[0] for array in self.kept if (array == array[0]).all()], np.int32)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", firsts)]))
            if self.kept[-1][0] == 0:
                self.kept.clear()
        return responses
"""
_CALLS = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceRequest(
                model_name="keeps", requested_output_names=["Y"],
                inputs=[pb_utils.get_input_tensor_by_name(request, "X")],
            ).exec()
            for request in requests
        ]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    work = tmp_path_factory.mktemp("kept")
    for name, code in (("keeps", _KEEPS), ("calls", _CALLS)):
        folder = work / "models" / name / "1"
        folder.mkdir(parents=True)
        (folder / "model.py").write_text(code)
        (folder.parent / "config.pbtxt").write_text(_CONFIG)
    # Two workers: the model that calls is on another one than the called one.
    with serving(work, ["--workers=2"], work / "models") as running:
        yield running


def _used(server: RunningServer) -> float:
    """Bytes of all arenas that are taken."""
    page = requests.get(f"http://{server.metrics}/metrics", timeout=30).text
    return sum(float(line.split()[1]) for line in page.splitlines() if line.startswith("tensorhub_arena_used_bytes"))


@pytest.mark.parametrize("model", ["keeps", "calls"])
@pytest.mark.parametrize("protocol", [httpclient, grpcclient], ids=["http", "grpc"])
def test_what_is_kept_stays_until_it_is_let_go(server: RunningServer, protocol: ModuleType, model: str) -> None:
    with protocol.InferenceServerClient(server.http if protocol is httpclient else server.grpc) as client:
        for value, expected in ((1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (0, [1, 2, 3, 0]), (5, [5]), (0, [5, 0])):
            given = protocol.InferInput("X", [SIZE], "INT32")
            given.set_data_from_numpy(np.full(SIZE, value, np.int32))
            assert client.infer(model, [given]).as_numpy("Y").tolist() == expected
    wait_until(lambda: _used(server) == 0, "nothing is kept any more", account=lambda: _used(server))
