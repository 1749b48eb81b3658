import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """OUTPUT0 = INPUT0; SEEN = the shape that the model was given."""

    def execute(self, requests):
        return [self._one(request) for request in requests]

    def _one(self, request):
        values = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("OUTPUT0", values),
                pb_utils.Tensor(
                    "SEEN", np.array([str(list(values.shape))], dtype=np.object_).reshape(self._seen_shape)
                ),
            ]
        )

    def initialize(self, args):
        self._seen_shape = [1, 1] if '"max_batch_size":0' not in args["model_config"].replace(" ", "") else [1]
