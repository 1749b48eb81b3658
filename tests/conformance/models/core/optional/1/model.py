import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """SUM = A + B, if B is given, else A; GIVEN lists the inputs that were given."""

    def execute(self, requests):
        return [self._one(request) for request in requests]

    def _one(self, request):
        given = sorted(tensor.name() for tensor in request.inputs())
        total = pb_utils.get_input_tensor_by_name(request, "A").as_numpy()
        second = pb_utils.get_input_tensor_by_name(request, "B")
        if second is not None:
            total = total + second.as_numpy()
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("SUM", total), pb_utils.Tensor("GIVEN", np.array(given, dtype=np.object_))]
        )
