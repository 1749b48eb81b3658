"""Adds one to its input in place and returns that."""

import triton_python_backend_utils as pb_utils

from tests.shm.fake_device import FakeArray, writable


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "INPUT0")
            values = writable(tensor.to_dlpack())
            values += 1
            output = pb_utils.Tensor.from_dlpack("OUTPUT0", FakeArray(values))
            responses.append(pb_utils.InferenceResponse([output]))
        return responses
