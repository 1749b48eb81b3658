import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """REPORT = the requests that came before, as JSON: those that warmed the model up. One of 13 fails."""

    def initialize(self, args):
        self._seen = []

    def execute(self, requests):
        return [self._one(request) for request in requests]

    def _one(self, request):
        values = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
        if values.reshape(-1)[0] == 13:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("thirteen"))
        text = json.dumps(self._seen).encode()
        self._seen.append([request.request_id(), list(values.shape), values.reshape(-1).tolist()])
        shape = [values.shape[0], 1] if values.ndim == 2 else [1]
        return pb_utils.InferenceResponse([pb_utils.Tensor("REPORT", np.full(shape, text, dtype=np.object_))])
