import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """OUTPUT0 = INPUT0; the model completes its own config."""

    @staticmethod
    def auto_complete_config(config):
        width = int(config.as_dict()["parameters"]["width"]["string_value"])
        config.add_input({"name": "INPUT0", "data_type": "TYPE_INT32", "dims": [width]})
        config.add_output({"name": "OUTPUT0", "data_type": "TYPE_INT32", "dims": [width]})
        return config

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("OUTPUT0", pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy())]
            )
            for request in requests
        ]
