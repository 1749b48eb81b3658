import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """OUTPUT0 = INPUT0, by numpy where it knows the type, else by DLPack."""

    def execute(self, requests):
        return [self._one(request) for request in requests]

    def _one(self, request):
        tensor = pb_utils.get_input_tensor_by_name(request, "INPUT0")
        try:
            output = pb_utils.Tensor("OUTPUT0", tensor.as_numpy())
        except pb_utils.TritonModelException:
            output = pb_utils.Tensor.from_dlpack("OUTPUT0", tensor.to_dlpack())
        return pb_utils.InferenceResponse([output])
