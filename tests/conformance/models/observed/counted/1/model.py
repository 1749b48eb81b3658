import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Answers, answers with an error, or raises, as KIND says."""

    def execute(self, requests):
        answers = []
        for request in requests:
            kind = pb_utils.get_input_tensor_by_name(request, "KIND").as_numpy().reshape(-1)[0].decode()
            if kind == "raise":
                raise ValueError("told to raise")
            if kind == "error":
                answers.append(pb_utils.InferenceResponse(error=pb_utils.TritonError("told to fail")))
            else:
                answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([7], dtype=np.int32))]))
        return answers
