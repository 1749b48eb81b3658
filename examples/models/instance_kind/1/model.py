"""What a model knows of the instance that it is."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        """Keep the answer. A model for GPUs would choose `cuda:<model_instance_device_id>` here."""
        self.name = np.array([args["model_instance_name"]], dtype=object)
        self.kind = np.array([args["model_instance_kind"]], dtype=object)

    def execute(self, requests):
        outputs = [pb_utils.Tensor("INSTANCE", self.name), pb_utils.Tensor("KIND", self.kind)]
        return [pb_utils.InferenceResponse(outputs) for _ in requests]
