"""Adds START to itself TIMES times, one call of `add_sub` after the other: a loop, which no ensemble could have."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        start = pb_utils.get_input_tensor_by_name(request, "START").as_numpy().reshape(1, 16)
        total = start
        for _ in range(int(pb_utils.get_input_tensor_by_name(request, "TIMES").as_numpy()[0])):
            call = pb_utils.InferenceRequest(
                model_name="add_sub",
                requested_output_names=["OUTPUT0"],
                inputs=[pb_utils.Tensor("INPUT0", total), pb_utils.Tensor("INPUT1", start)],
            )
            answer = call.exec()
            if answer.has_error():
                return pb_utils.InferenceResponse(error=answer.error())
            total = pb_utils.get_output_tensor_by_name(answer, "OUTPUT0").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("RESULT", total.reshape(16))])
