import numpy as np
import triton_python_backend_utils as pb_utils

_VALUES = [
    b"",
    b"plain",
    "caf\u00e9 \u2603 \U0001f600".encode(),
    b'quote " back \\ slash / tab \t line \n nul \x00 del \x7f',
    b"\x01\x1f",
]


class TritonPythonModel:
    """Strings that need escapes in JSON; all are valid UTF-8."""

    def execute(self, requests):
        values = np.array(_VALUES, dtype=np.object_)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", values)]) for _ in requests]
