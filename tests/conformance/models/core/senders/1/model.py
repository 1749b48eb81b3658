import threading

import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


def response(number, text):
    return pb_utils.InferenceResponse(
        [
            pb_utils.Tensor("OUTPUT0", np.array([number], dtype=np.int32)),
            pb_utils.Tensor("TEXT", np.array([text.encode()], dtype=np.object_)),
        ]
    )


class TritonPythonModel:
    """An ordinary model that answers through response senders, as the words of SCRIPT say."""

    def execute(self, requests):
        for request in requests:
            words = pb_utils.get_input_tensor_by_name(request, "SCRIPT").as_numpy().reshape(-1)[0].decode().split()
            sender = request.get_response_sender()
            if words[0] == "later":
                threading.Thread(target=run, args=(sender, words[1:])).start()
            else:
                run(sender, words)


def run(sender, words):
    caught = "nothing"
    for number, word in enumerate(words):
        try:
            if word == "send":
                sender.send(response(number, caught))
            elif word == "send-final":
                sender.send(response(number, caught), flags=FINAL)
            elif word == "error-final":
                sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError(f"error {number}")), flags=FINAL)
            elif word == "final":
                sender.send(flags=FINAL)
        except pb_utils.TritonModelException as error:
            caught = str(error)
