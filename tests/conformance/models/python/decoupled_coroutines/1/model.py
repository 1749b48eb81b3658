import asyncio

import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


def _response(value):
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([value], dtype=np.int32))])


class TritonPythonModel:
    """A decoupled `execute` that is a coroutine, which answers in the way that MODE names."""

    async def execute(self, requests):
        for request in requests:
            mode = pb_utils.get_input_tensor_by_name(request, "MODE").as_numpy()[0].decode()
            await getattr(self, f"_{mode}")(request.get_response_sender())

    async def _one(self, sender):
        sender.send(_response(1), FINAL)

    async def _three(self, sender):
        for value in range(3):
            sender.send(_response(value))
            await asyncio.sleep(0.001)
        sender.send(flags=FINAL)

    async def _none(self, sender):
        sender.send(flags=FINAL)

    async def _error(self, sender):
        error = pb_utils.TritonError("by a coroutine", pb_utils.TritonError.NOT_FOUND)
        sender.send(pb_utils.InferenceResponse(error=error), FINAL)

    async def _error_between(self, sender):
        sender.send(_response(1))
        sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("between")))
        sender.send(_response(2), FINAL)

    async def _empty(self, sender):
        sender.send(pb_utils.InferenceResponse([]))
        sender.send(flags=FINAL)

    async def _waits(self, sender):
        """Ends when `_wakes` has been called, which can only be while this waits."""
        self.event = asyncio.Event()
        sender.send(_response(1))
        await self.event.wait()
        sender.send(_response(2), FINAL)

    async def _wakes(self, sender):
        self.event.set()
        sender.send(_response(3), FINAL)

    async def _raises_after(self, sender):
        sender.send(_response(4), FINAL)
        raise ValueError("after the end")

    async def _returns_value(self, sender):
        sender.send(_response(5), FINAL)
        return 7

    async def _other_task(self, sender):
        async def respond():
            sender.send(_response(6), FINAL)

        await asyncio.create_task(respond())
