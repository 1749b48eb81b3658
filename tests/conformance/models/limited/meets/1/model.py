import json
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """REPORT = which other models of this repository ran when this one began, as JSON. INPUT0 = its milliseconds."""

    def initialize(self, args):
        self._mark = Path(args["model_repository"]).parent.parent / f"running-{args['model_name']}"

    def execute(self, requests):
        others = sorted(path.name.partition("-")[2] for path in self._mark.parent.glob("running-*"))
        self._mark.touch()
        values = [pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy() for request in requests]
        time.sleep(max(int(item.reshape(-1)[0]) for item in values) / 1000)
        self._mark.unlink()
        text = np.array([json.dumps(others)], dtype=np.object_)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("REPORT", text)]) for _ in requests]
