"""Reads its input when it is let: the request names a file that says so, and one to tell that it waits."""

import json
import os
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            names = json.loads(request.parameters())
            if "entered" in names:
                open(names["entered"], "w").close()
                deadline = time.monotonic() + 60
                while not os.path.exists(names["gate"]) and time.monotonic() < deadline and not request.is_cancelled():
                    time.sleep(0.002)
            array = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array.copy())]))
        return responses
