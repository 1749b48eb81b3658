import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Adds one to its input where it lies."""

    def execute(self, requests):
        responses = []
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            values += 1
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", values)]))
        return responses
