import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Evaluates the Python expression CODE and returns the `repr` of its value, or what it raised."""

    def initialize(self, args):
        self.args = args

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        code = pb_utils.get_input_tensor_by_name(request, "CODE").as_numpy()[0].decode()
        names = {"pb": pb_utils, "np": np, "json": json, "request": request, "args": self.args}
        try:
            text = repr(eval(code, names))
        except Exception as error:
            text = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        return pb_utils.InferenceResponse([pb_utils.Tensor("RESULT", np.array([text.encode()], dtype=object))])
