import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One output of each of four types, all made from INPUT0, returned in an order of its own."""

    def execute(self, requests):
        return [self._one(request) for request in requests]

    def _one(self, request):
        values = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("D_INT64", values.astype(np.int64)),
                pb_utils.Tensor("B_BYTES", np.array([str(value) for value in values], dtype=np.object_)),
                pb_utils.Tensor("A_FP32", values.astype(np.float32)),
                pb_utils.Tensor("C_BOOL", values > 0),
            ]
        )
