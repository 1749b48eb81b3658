import json
import time
import uuid
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """REPORT = which other models of this repository ran when this one began, as JSON.

    INPUT0 = its milliseconds; -1 is held until the gate beside the repository is open.
    """

    def initialize(self, args):
        folder = Path(args["model_repository"]).parent.parent
        self._mark = folder / f"running-{args['model_name']}"
        self._gate = folder / "gate"

    def execute(self, requests):
        others = sorted(path.name.partition("-")[2] for path in self._mark.parent.glob("running-*"))
        self._mark.touch()
        [request] = requests
        milliseconds = int(pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()[0])
        if milliseconds < 0:
            (self._gate / f"held-{uuid.uuid4()}").touch()
        while milliseconds < 0 and not (self._gate / "open").exists():
            time.sleep(0.005)
        time.sleep(max(0, milliseconds) / 1000)
        self._mark.unlink()
        text = np.array([json.dumps(others)], dtype=np.object_)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("REPORT", text)])]
