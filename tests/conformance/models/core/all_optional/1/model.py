import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """COUNT = how many inputs were given."""

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("COUNT", np.array([len(request.inputs())], dtype=np.int32))])
            for request in requests
        ]
