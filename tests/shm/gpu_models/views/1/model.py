"""Adds one to its input, wherever it is, and says where that was in a parameter of the response."""

import numpy as np
import triton_python_backend_utils as pb_utils

from tests.shm.fake_device import FakeArray, to_numpy


class TritonPythonModel:
    def initialize(self, args):
        self._device = args["model_instance_device_id"]
        self._kind = args["model_instance_kind"]

    def execute(self, requests):
        responses = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "INPUT0")
            parameters = {"is_cpu": tensor.is_cpu(), "kind": self._kind, "device": self._device}
            if tensor.is_cpu():
                output = pb_utils.Tensor("OUTPUT0", tensor.as_numpy() + 1)
            else:
                try:
                    tensor.as_numpy()
                except pb_utils.TritonModelException as exc:
                    parameters["refused"] = str(exc)
                values = to_numpy(tensor.to_dlpack())
                output = pb_utils.Tensor.from_dlpack("OUTPUT0", FakeArray(np.add(values, 1)))
                parameters["output_is_cpu"] = output.is_cpu()
            responses.append(pb_utils.InferenceResponse([output], parameters=parameters))
        return responses
