"""Adds one to its input, which is in the host's memory; 13 breaks it. It tells whether its input is in locked pages."""

import sys

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "INPUT0")
            array = tensor.as_numpy()
            if array[0] == 13:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            array = array + 1
            locked = sys.modules["tests.shm.fake_device"].is_locked(tensor.as_numpy())
            parameters = {"is_cpu": tensor.is_cpu(), "locked": locked}
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array)], parameters=parameters))
        return responses
