"""Models that say how often they have run, for the tests of response caches."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tritonclient.http

from tests.serving import RunningServer

COUNTING = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.runs = 0

    def execute(self, requests):
        answers = []
        for request in requests:
            self.runs += 1
            value = pb_utils.get_input_tensor_by_name(request, "I").as_numpy()
            runs = np.full(value.shape, self.runs, np.int32)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("A", value + 1), pb_utils.Tensor("RUNS", runs)]))
        return answers
"""

TENSORS = """
input [ { name: "I" data_type: TYPE_INT32 dims: [ -1 ] } ]
output [ { name: "A" data_type: TYPE_INT32 dims: [ -1 ] }, { name: "RUNS" data_type: TYPE_INT32 dims: [ -1 ] } ]
"""
PYTHON = 'backend: "python"\n'
CACHED = "response_cache { enable: true }\n"
GROUP = "instance_group [ {{ count: {}, kind: KIND_CPU }} ]\n"


def write_models(root: Path, models: Mapping[str, tuple[str, str]]) -> None:
    """Write a repository: by the model's name its code, "" for none, and its config."""
    for name, (code, config) in models.items():
        (root / name / "1").mkdir(parents=True)
        if code:
            (root / name / "1" / "model.py").write_text(code)
        (root / name / "config.pbtxt").write_text(config)


def counted(server: RunningServer, model: str) -> dict[str, Any]:
    """Return the statistics of a model."""
    with tritonclient.http.InferenceServerClient(server.http) as client:
        found: dict[str, Any] = client.get_inference_statistics(model)["model_stats"][0]
        return found
