"""A model that waits on the worker's loop, where nobody expected it: what the loop was at goes on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests

from tests.serving import RunningServer, serving
from tests.waiting import wait_until

from .repository import add_model, ask

_CONFIG = """
    backend: "python" max_batch_size: 8 {batching}
    input [ {{ name: "X" data_type: TYPE_INT32 dims: [ 1 ] }} ]
    output [ {{ name: "Y" data_type: TYPE_INT32 dims: [ 1 ] }} ]
"""
_MODEL = """
    import threading
    from pathlib import Path
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.folder = Path(args["model_repository"]).parent

        def wait_for(self, name):
            while not (self.folder / name).exists():
                threading.Event().wait(0.005)

        def execute(self, requests):
            return [self.answer(request) for request in requests]

        def answer(self, request):
            x = pb_utils.get_input_tensor_by_name(request, "X")
            if x.as_numpy()[0, 0]:
                {unusual}
            return pb_utils.InferenceResponse([pb_utils.Tensor("Y", x.as_numpy())])
"""
_CALL = (
    'call = pb_utils.InferenceRequest(model_name="waits", requested_output_names=["Y"], inputs=[x]); '
    'getattr(call, "ex" + "ec")()'
)
_QUICK_RUNS = 60


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    models = tmp_path / "models"
    for name, batching, unusual in (
        ("holds", "", 'self.wait_for("go")'),
        ("calls", "dynamic_batching { }", _CALL),
        ("other", "dynamic_batching { }", "pass"),
        ("waits", "", 'self.wait_for("answered")'),
    ):
        add_model(models, name, _CONFIG.format(batching=batching), _MODEL.format(unusual=unusual))
    with serving(tmp_path, ["--workers=1", "--http-workers=1"], models) as running:
        yield running


def _in_flight(server: RunningServer) -> float:
    page = requests.get(f"http://{server.metrics}/metrics", timeout=30).text
    (line,) = [line for line in page.splitlines() if line.startswith('tensorhub_open_requests{process="http"}')]
    return float(line.split()[1])


def test_models_that_batch_are_not_forgotten(server: RunningServer, tmp_path: Path) -> None:
    usual, unusual = np.zeros((1, 1), np.int32), np.ones((1, 1), np.int32)
    for name in ("holds", "calls", "other"):
        for _ in range(_QUICK_RUNS):
            ask(server.http, name, X=usual)
    with ThreadPoolExecutor(3) as clients:
        try:
            clients.submit(ask, server.http, "holds", X=unusual)
            wait_until(lambda: _in_flight(server) == 1, "the loop is held")
            calling = clients.submit(ask, server.http, "calls", X=unusual)
            wait_until(lambda: _in_flight(server) == 2, "the next request waits")
            other = clients.submit(ask, server.http, "other", X=usual)
            wait_until(lambda: _in_flight(server) == 3, "and one more")
            (tmp_path / "models" / "go").touch()
            assert other.result(timeout=30)["Y"].tolist() == [[0]]
        finally:
            for name in ("go", "answered"):
                (tmp_path / "models" / name).touch()
        assert calling.result(timeout=30)["Y"].tolist() == [[1]]
