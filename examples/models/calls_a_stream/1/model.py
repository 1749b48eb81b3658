"""Adds up what `decoupled_repeat` answers, as it comes."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        call = pb_utils.InferenceRequest(
            model_name="decoupled_repeat", requested_output_names=["VALUE"], inputs=request.inputs()
        )
        total = 0
        for answer in call.exec(decoupled=True):
            if answer.has_error():
                return pb_utils.InferenceResponse(error=answer.error())
            value = pb_utils.get_output_tensor_by_name(answer, "VALUE")
            if value is not None:  # the last answer may have no tensors
                total += int(value.as_numpy()[0])
        return pb_utils.InferenceResponse([pb_utils.Tensor("TOTAL", np.array([total], np.int32))])
