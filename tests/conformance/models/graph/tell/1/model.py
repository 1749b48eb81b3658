import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Tells what it has been asked."""

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        told = {
            "id": request.request_id(),
            "correlation_id": request.correlation_id(),
            "flags": request.flags(),
            "timeout": request.timeout(),
            "parameters": json.loads(request.parameters()),
            "outputs": sorted(request.requested_output_names()),
            "inputs": {tensor.name(): tensor.as_numpy().tolist() for tensor in request.inputs()},
        }
        text = json.dumps(told, sort_keys=True)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([text.encode()], dtype=object))])
