import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """ROW is VALUES; TABLE has each row twice, the second time negative; NUMBER is the length of each row."""

    def execute(self, requests):
        return [self._one(request) for request in requests]

    def _one(self, request):
        values = pb_utils.get_input_tensor_by_name(request, "VALUES").as_numpy()
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("ROW", values),
                pb_utils.Tensor("TABLE", np.stack([values, -values], axis=1)),
                pb_utils.Tensor("NUMBER", np.full(values.shape[0], values.shape[1], np.int32)),
            ]
        )
