import numpy as np
import triton_python_backend_utils as pb_utils

_VALUES = [
    0.0,
    -0.0,
    1.0,
    -1.5,
    0.1,
    1 / 3,
    1e-7,
    1e7,
    16777217.0,
    1e16,
    1e21,
    1.5e300,
    5e-324,
    np.nan,
    np.inf,
    -np.inf,
]


class TritonPythonModel:
    """Floating-point values that are hard to print."""

    def execute(self, requests):
        with np.errstate(over="ignore", under="ignore"):
            single, double = np.array(_VALUES).astype(np.float32), np.array(_VALUES)
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("SINGLE", single), pb_utils.Tensor("DOUBLE", double)])
            for _ in requests
        ]
