import asyncio

import numpy as np
import triton_python_backend_utils as pb_utils


def _response(value):
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([value], dtype=np.int32))])


class TritonPythonModel:
    """An `execute` that is a coroutine, which ends in the way that MODE names."""

    async def execute(self, requests):
        mode = pb_utils.get_input_tensor_by_name(requests[0], "MODE").as_numpy()[0].decode()
        return await getattr(self, f"_{mode}")(requests[0])

    async def _ok(self, request):
        await asyncio.sleep(0)
        return [_response(1)]

    async def _gather(self, request):
        values = await asyncio.gather(*(asyncio.sleep(0.001, value) for value in range(5)))
        return [_response(sum(values))]

    async def _task(self, request):
        task = asyncio.create_task(asyncio.sleep(0.001, 7))
        return [_response(await task)]

    async def _same_loop(self, request):
        loop = asyncio.get_running_loop()
        same = getattr(self, "loop", loop) is loop
        self.loop = loop
        return [_response(int(same))]

    async def _to_thread(self, request):
        return [_response(await asyncio.to_thread(lambda: 9))]

    async def _value_error(self, request):
        raise ValueError("in a coroutine")

    async def _after_await(self, request):
        await asyncio.sleep(0.001)
        raise pb_utils.TritonModelException("after an await")

    async def _returns_int(self, request):
        return 5

    async def _too_many(self, request):
        return [_response(1), _response(2)]

    async def _error_response(self, request):
        return [pb_utils.InferenceResponse(error=pb_utils.TritonError("told", pb_utils.TritonError.UNAVAILABLE))]

    async def _sender(self, request):
        request.get_response_sender().send(_response(3), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return [None]

    async def _timeout(self, request):
        await asyncio.wait_for(asyncio.sleep(5), 0.001)
