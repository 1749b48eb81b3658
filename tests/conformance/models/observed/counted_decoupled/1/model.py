import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Answers COUNT times, 0 .. COUNT - 1."""

    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            count = int(pb_utils.get_input_tensor_by_name(request, "COUNT").as_numpy().reshape(-1)[0])
            for number in range(count):
                sender.send(
                    pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([number], dtype=np.int32))])
                )
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
