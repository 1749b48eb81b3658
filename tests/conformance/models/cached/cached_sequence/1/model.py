import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """A is I + 1 (and + J); B is how many requests the model has seen. It fails for -1, and raises for -2."""

    def initialize(self, args):
        self.seen = 0

    def execute(self, requests):
        answers = []
        for request in requests:
            self.seen += 1
            value = pb_utils.get_input_tensor_by_name(request, "I").as_numpy()
            more = pb_utils.get_input_tensor_by_name(request, "J")
            if value.flat[0] == -2:
                raise ValueError("told to raise")
            if value.flat[0] == -1:
                answers.append(pb_utils.InferenceResponse(error=pb_utils.TritonError("told to fail")))
                continue
            total = value + 1 if more is None else value + 1 + more.as_numpy()
            seen = np.full_like(value, self.seen)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("A", total), pb_utils.Tensor("B", seen)]))
        return answers
