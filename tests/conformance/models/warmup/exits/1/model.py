import asyncio

import numpy as np
import triton_python_backend_utils as pb_utils

_ERRORS = {
    "system": SystemExit(3),
    "system_text": SystemExit("bye"),
    "keyboard": KeyboardInterrupt(),
    "generator": GeneratorExit(),
    "cancelled": asyncio.CancelledError("gone"),
    "own": type("OwnKind", (BaseException,), {})("of its own"),
}


class TritonPythonModel:
    def execute(self, requests):
        kind = requests[0].inputs()[0].as_numpy()[0].decode()
        if kind in _ERRORS:
            raise _ERRORS[kind]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([7], np.int32))]) for _ in requests]
