import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Gives the same tensor twice to a model that writes to it, and looks at it afterwards."""

    def execute(self, requests):
        responses = []
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            answers = []
            for _ in range(2):
                tensors = [pb_utils.Tensor("IN", values)]
                call = pb_utils.InferenceRequest(model_name="inplace", inputs=tensors, requested_output_names=["OUT"])
                answers.append(call.exec().output_tensors()[0].as_numpy())
            result = values * 100 + answers[0] * 10 + answers[1]
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", result)]))
        return responses
