import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Counts to IN; a negative number ends with an error after as many."""

    def execute(self, requests):
        for request in requests:
            count = int(pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()[0])
            sender = request.get_response_sender()
            for index in range(abs(count)):
                values = {"OUT": index, "LEFT": abs(count) - index - 1}
                sender.send(
                    pb_utils.InferenceResponse(
                        [pb_utils.Tensor(name, np.array([value], np.int32)) for name, value in values.items()]
                    )
                )
            if count < 0:
                sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("told to fail")))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
