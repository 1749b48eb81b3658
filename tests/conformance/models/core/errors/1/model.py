import asyncio

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
    """Fails in the way that KIND names: a code of TritonError, or one of the keys below."""

    def execute(self, requests):
        kind = pb_utils.get_input_tensor_by_name(requests[0], "KIND").as_numpy().reshape(-1)[0].decode()
        if kind in _CODES:
            error = pb_utils.TritonError(f"told to say {kind}", getattr(pb_utils.TritonError, kind))
            return [pb_utils.InferenceResponse(error=error)]
        return getattr(self, f"_{kind}")()

    def _ok(self):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([7], dtype=np.int32))])]

    def _default_code(self):
        return [pb_utils.InferenceResponse(error=pb_utils.TritonError("no code given"))]

    def _empty_message(self):
        return [pb_utils.InferenceResponse(error=pb_utils.TritonError(""))]

    def _long_message(self):
        return [pb_utils.InferenceResponse(error=pb_utils.TritonError("long " * 200))]

    def _unicode_message(self):
        return [pb_utils.InferenceResponse(error=pb_utils.TritonError('caf\u00e9 "quoted" back\\slash\ttab\nline'))]

    def _error_and_tensors(self):
        tensor = pb_utils.Tensor("OUTPUT0", np.array([7], dtype=np.int32))
        return [pb_utils.InferenceResponse([tensor], pb_utils.TritonError("with tensors"))]

    def _value_error(self):
        raise ValueError("bad value")

    def _key_error(self):
        return {}["missing"]

    def _zero_division(self):
        return 1 // 0

    def _model_exception(self):
        raise pb_utils.TritonModelException("raised by the model")

    def _multiline(self):
        raise RuntimeError("first line\nsecond line")

    def _return_int(self):
        return 5

    def _return_tuple(self):
        return tuple(self._ok())

    def _return_response(self):
        return self._ok()[0]

    def _return_too_few(self):
        return []

    def _return_too_many(self):
        return self._ok() * 2

    def _return_wrong_item(self):
        return ["not a response"]

    def _no_outputs(self):
        return [pb_utils.InferenceResponse([])]

    def _unknown_output(self):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OTHER", np.array([7], dtype=np.int32))])]

    def _extra_output(self):
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor("OUTPUT0", np.array([7], dtype=np.int32)),
                    pb_utils.Tensor("OTHER", np.array([8], dtype=np.int32)),
                ]
            )
        ]

    def _wrong_dtype(self):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([7.5], dtype=np.float32))])]

    def _wrong_shape(self):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([[1, 2], [3, 4]], dtype=np.int32))])]

    def _empty_tensor(self):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([], dtype=np.int32))])]

    def _tensor_without_name(self):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("", np.array([7], dtype=np.int32))])]

    def _tensor_of_complex(self):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([7j]))])]

    def _strided(self):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.arange(10, dtype=np.int32)[3:4:2])])]

    def _asyncio_run(self):
        asyncio.run(asyncio.wait_for(asyncio.Event().wait(), 0.001))
