"""Asks `add_sub` for the sum and the difference in two calls, which run side by side."""

import asyncio

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    async def execute(self, requests):
        return await asyncio.gather(*map(self._answer, requests))

    async def _answer(self, request):
        inputs = [
            pb_utils.Tensor(to, pb_utils.get_input_tensor_by_name(request, name).as_numpy().reshape(1, 16))
            for name, to in (("LEFT", "INPUT0"), ("RIGHT", "INPUT1"))
        ]
        calls = [
            pb_utils.InferenceRequest(model_name="add_sub", requested_output_names=[output], inputs=inputs)
            for output in ("OUTPUT0", "OUTPUT1")
        ]
        answers = await asyncio.gather(*(call.async_exec() for call in calls))
        for answer in answers:
            if answer.has_error():
                return pb_utils.InferenceResponse(error=answer.error())
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(name, answer.output_tensors()[0].as_numpy().reshape(16))
                for name, answer in zip(("SUM", "DIFFERENCE"), answers, strict=True)
            ]
        )
