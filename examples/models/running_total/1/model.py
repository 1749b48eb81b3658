import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """TOTAL = the sum of all VALUEs of the sequence so far."""

    def execute(self, requests):
        return [self._step(request) for request in requests]

    def _step(self, request):
        total = self._input(request, "VALUE")
        if not self._input(request, "START").any():  # at the start, SO_FAR is zero anyway
            total = total + self._input(request, "SO_FAR")
        # NEXT is no output that clients could ask for: it goes to the server.
        return pb_utils.InferenceResponse([pb_utils.Tensor("TOTAL", total), pb_utils.Tensor("NEXT", total)])

    def _input(self, request, name):
        return np.array(pb_utils.get_input_tensor_by_name(request, name).as_numpy())
