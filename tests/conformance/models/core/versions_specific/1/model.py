import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """VERSION = the version and the name that the model was told; INPUT0 is not looked at."""

    def initialize(self, args):
        told = ("model_name", "model_version", "model_instance_kind", "model_instance_device_id")
        self._text = " ".join(args[key] for key in told)

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("VERSION", np.array([self._text], dtype=np.object_))])
            for _ in requests
        ]
