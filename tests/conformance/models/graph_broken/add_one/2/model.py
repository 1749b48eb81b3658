import numpy as np
import triton_python_backend_utils as pb_utils

_CODES = (
    "UNKNOWN",
    "INTERNAL",
    "NOT_FOUND",
    "INVALID_ARG",
    "UNAVAILABLE",
    "UNSUPPORTED",
    "ALREADY_EXISTS",
    "CANCELLED",
)


class TritonPythonModel:
    """Adds the number of its version; a negative number is an error, of the kind that the number names."""

    def initialize(self, args):
        self.version = np.int32(args["model_version"])

    def execute(self, requests):
        return [self._answer(pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()) for request in requests]

    def _answer(self, values):
        if values.size and values[0] == -100:
            raise ValueError("told to raise")
        if values.size and -8 <= values[0] < 0:
            return pb_utils.InferenceResponse(
                error=pb_utils.TritonError("told to fail", getattr(pb_utils.TritonError, _CODES[-int(values[0]) - 1]))
            )
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", values + self.version)])
