"""Errors of single requests: the others of the same batch are answered."""

import triton_python_backend_utils as pb_utils

CODES = (
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
    def execute(self, requests):
        return [self._answer(pb_utils.get_input_tensor_by_name(request, "CODE").as_numpy()) for request in requests]

    def _answer(self, codes):
        name = codes.ravel()[0].decode()
        if name in CODES:
            error = pb_utils.TritonError(f"an error of the kind {name}", getattr(pb_utils.TritonError, name))
            return pb_utils.InferenceResponse(error=error)
        return pb_utils.InferenceResponse([pb_utils.Tensor("ECHO", codes)])
