import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Returns IN as A and B; without B if IN begins with 0."""

    def execute(self, requests):
        responses = []
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            names = ("A", "B") if values[0] else ("A",)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor(name, values) for name in names]))
        return responses
