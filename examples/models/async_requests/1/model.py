"""An ordinary model as a coroutine. With ASYNC_OVERLAP, calls begin while earlier ones wait."""

import asyncio

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.waiting = 0
        self.most = 0

    async def execute(self, requests):
        """Answer with the most requests that have ever waited here at one time."""
        return await asyncio.gather(*(self._answer(request) for request in requests))

    async def _answer(self, request):
        seconds = float(pb_utils.get_input_tensor_by_name(request, "SECONDS").as_numpy()[0])
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await asyncio.sleep(seconds)
        self.waiting -= 1
        return pb_utils.InferenceResponse([pb_utils.Tensor("TOGETHER", np.array([self.most], dtype=np.int32))])
