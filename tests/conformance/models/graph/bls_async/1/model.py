import asyncio
import json

import numpy as np
import triton_python_backend_utils as pb_utils

_TYPES = {"INT32": np.int32, "FP32": np.float32, "BYTES": object}


class TritonPythonModel:
    """Makes the call that CALL describes in JSON, and returns the responses as JSON."""

    async def execute(self, requests):
        return [await self._answer(request) for request in requests]

    async def _answer(self, request):
        call = json.loads(pb_utils.get_input_tensor_by_name(request, "CALL").as_numpy()[0])
        text = json.dumps(await self._exec(**call), sort_keys=True)
        return pb_utils.InferenceResponse([pb_utils.Tensor("ANSWERS", np.array([text.encode()], dtype=object))])

    async def _exec(self, inputs, outputs, decoupled=False, times=1, **options):
        request = pb_utils.InferenceRequest(inputs=_tensors(inputs), requested_output_names=outputs, **options)
        answers = await asyncio.gather(*(request.async_exec(decoupled=decoupled) for _ in range(times)))
        return [_shown(response) for answer in answers for response in (answer if decoupled else [answer])]


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
