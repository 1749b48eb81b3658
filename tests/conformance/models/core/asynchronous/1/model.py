import asyncio

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """OUTPUT0 = INPUT0, by a coroutine."""

    async def execute(self, requests):
        return await asyncio.gather(*(self._one(request) for request in requests))

    async def _one(self, request):
        await asyncio.sleep(0)
        values = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", values)])
