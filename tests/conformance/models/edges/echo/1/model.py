import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """REPORT = what the model can learn of its request, as JSON; OTHER = INPUT0."""

    def execute(self, requests):
        return [self._one(request) for request in requests]

    def _one(self, request):
        report = {
            "id": request.request_id(),
            "correlation_id": request.correlation_id(),
            "flags": request.flags(),
            "timeout": request.timeout(),
            "parameters": json.loads(request.parameters()),
            "requested": sorted(request.requested_output_names()),
        }
        text = json.dumps(report, sort_keys=True)
        values = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("REPORT", np.array([text], dtype=np.object_)), pb_utils.Tensor("OTHER", values)]
        )
