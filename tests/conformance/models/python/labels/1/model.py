import os

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """PASSED = SCORES, whose classes have labels; NAMED are the labels that the model reads itself, by score."""

    def initialize(self, args):
        with open(os.path.join(args["model_repository"], "labels.txt")) as file:
            self.labels = [*file.read().splitlines(), "other"]

    def execute(self, requests):
        responses = []
        for request in requests:
            scores = pb_utils.get_input_tensor_by_name(request, "SCORES").as_numpy()
            order = np.argsort(-scores, axis=1)
            named = np.array([[self.labels[index] for index in row] for row in order], dtype=object)
            responses.append(
                pb_utils.InferenceResponse([pb_utils.Tensor("PASSED", scores), pb_utils.Tensor("NAMED", named)])
            )
        return responses
