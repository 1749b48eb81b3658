"""Gives its input to `views` and to `hosted`, and says where each of the two had it, and where their answers are."""

import json

import triton_python_backend_utils as pb_utils


def _call(model, tensor):
    request = pb_utils.InferenceRequest(
        model_name=model, inputs=[pb_utils.Tensor.from_dlpack("INPUT0", tensor)], requested_output_names=["OUTPUT0"]
    )
    response = request.exec()
    if response.has_error():
        raise response.error()
    return pb_utils.get_output_tensor_by_name(response, "OUTPUT0"), response.parameters()


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "INPUT0")
            parameters = {"is_cpu": tensor.is_cpu()}
            from_views, said = _call("views", tensor)
            parameters["views_is_cpu"] = json.loads(said)["is_cpu"]
            parameters["from_views_is_cpu"] = from_views.is_cpu()
            from_hosted, said = _call("hosted", tensor)
            parameters["hosted_is_cpu"] = json.loads(said)["is_cpu"]
            parameters["from_hosted_is_cpu"] = from_hosted.is_cpu()
            outputs = [
                pb_utils.Tensor.from_dlpack("FROM_VIEWS", from_views),
                pb_utils.Tensor.from_dlpack("FROM_HOSTED", from_hosted),
            ]
            responses.append(pb_utils.InferenceResponse(outputs, parameters=parameters))
        return responses
