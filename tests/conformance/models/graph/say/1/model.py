import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Puts a mark behind each text."""

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("OUT", np.array([text + b"!" for text in self._texts(request)], dtype=object))]
            )
            for request in requests
        ]

    def _texts(self, request):
        return pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
