import json

import numpy as np
import triton_python_backend_utils as pb_utils

_TYPES = {"INT32": np.int32, "FP32": np.float32, "BYTES": object}


class TritonPythonModel:
    """Makes the call that CALL describes in JSON, and returns the responses as JSON."""

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        call = json.loads(pb_utils.get_input_tensor_by_name(request, "CALL").as_numpy()[0])
        function = getattr(self, "_" + call.pop("do", "exec"))
        text = json.dumps(function(**call), sort_keys=True)
        return pb_utils.InferenceResponse([pb_utils.Tensor("ANSWERS", np.array([text.encode()], dtype=object))])

    def _exec(self, inputs, outputs, decoupled=False, times=1, only_tensors=False, **options):
        request = pb_utils.InferenceRequest(inputs=_tensors(inputs), requested_output_names=outputs, **options)
        if decoupled:
            shown = [_shown(response) for _ in range(times) for response in request.exec(decoupled=True)]
            return [answer for answer in shown if answer or not only_tensors]
        return [_shown(request.exec()) for _ in range(times)]

    def _twice(self, inputs, outputs, **options):
        """Iterate over the same responses twice."""
        request = pb_utils.InferenceRequest(inputs=_tensors(inputs), requested_output_names=outputs, **options)
        responses = request.exec(decoupled=True)
        return [[_shown(response) for response in responses] for _ in range(2)]

    def _chain(self, model, length):
        """Call a model on its own output."""
        tensor = pb_utils.Tensor("IN", np.array([1], np.int32))
        for _ in range(length):
            request = pb_utils.InferenceRequest(model_name=model, inputs=[tensor], requested_output_names=["OUT"])
            response = request.exec()
            tensor = pb_utils.Tensor("IN", response.output_tensors()[0].as_numpy())
        return tensor.as_numpy().tolist()

    def _ready(self, model, version=""):
        return pb_utils.is_model_ready(model_name=model, model_version=version)

    def _load(self, model, **options):
        files = {name: text.encode() for name, text in options.pop("files", {}).items()}
        if files:
            options["files"] = files
        pb_utils.load_model(model_name=model, **options)
        return pb_utils.is_model_ready(model)

    def _unload(self, model):
        pb_utils.unload_model(model_name=model)
        return "unloaded"


def _tensors(inputs):
    return [
        pb_utils.Tensor(name, np.array(values, dtype=_TYPES[datatype]).reshape(shape))
        for name, datatype, shape, values in inputs
    ]


def _shown(response):
    if response.has_error():
        return {"code": int(response.error().code()), "error": response.error().message()}
    return {tensor.name(): _values(tensor) for tensor in response.output_tensors()}


def _values(tensor):
    array = tensor.as_numpy()
    return [item.decode() for item in array.reshape(-1)] if array.dtype == object else array.tolist()
