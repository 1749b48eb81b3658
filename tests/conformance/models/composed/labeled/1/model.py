import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """OUT is IN plus one, with labels; OTHER is the same without."""

    def execute(self, requests):
        responses = []
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy() + 1
            outputs = [pb_utils.Tensor(name, values) for name in request.requested_output_names()]
            responses.append(pb_utils.InferenceResponse(sorted(outputs, key=lambda item: item.name())))
        return responses
