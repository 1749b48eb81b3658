"""Says in parameters where the outputs of its calls were, and what was in them."""

import triton_python_backend_utils as pb_utils

from tests.shm.fake_device import to_numpy

_MEMORY = {
    "default": None,
    "cpu": pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU),
    "gpu": pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_GPU, 0),
    "unknown": pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_GPU, 7),
}


def _ask(model, memory, tensor):
    arguments = {} if memory is None else {"preferred_memory": memory}
    call = pb_utils.InferenceRequest(model_name=model, inputs=[tensor], requested_output_names=["OUTPUT0"], **arguments)
    response = call.exec()
    if response.has_error():
        return response.error().message()
    [output] = response.output_tensors()
    values = output.as_numpy() if output.is_cpu() else to_numpy(output.to_dlpack())
    return f"{'cpu' if output.is_cpu() else 'gpu'} {values[0]}"


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "INPUT0")
            said = {
                f"{model} {name}": _ask(model, memory, tensor)
                for model in ("views", "hosted", "identity_cpu")
                for name, memory in _MEMORY.items()
            }
            output = pb_utils.Tensor.from_dlpack("OUTPUT0", tensor)
            responses.append(pb_utils.InferenceResponse([output], parameters=said))
        return responses
