import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """An array of numpy's own string type."""

    def execute(self, requests):
        values = np.array(["ab", "caf\u00e9"])
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", values)]) for _ in requests]
