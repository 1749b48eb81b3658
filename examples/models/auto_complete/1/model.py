"""A model that describes itself: there is no config.pbtxt."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        """Fill in what config.pbtxt leaves open; called before the model is loaded."""
        config.set_max_batch_size(16)
        config.add_input({"name": "VALUES", "data_type": "TYPE_FP32", "dims": [-1]})
        config.add_output({"name": "SORTED", "data_type": "TYPE_FP32", "dims": [-1]})
        config.set_dynamic_batching()
        return config

    def execute(self, requests):
        """Sort each row."""
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("SORTED", np.sort(pb_utils.get_input_tensor_by_name(request, "VALUES").as_numpy()))]
            )
            for request in requests
        ]
