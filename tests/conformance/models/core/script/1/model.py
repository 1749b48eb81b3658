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
    """Does what the words of SCRIPT say, one after the other."""

    def execute(self, requests):
        result = None
        for request in requests:
            words = pb_utils.get_input_tensor_by_name(request, "SCRIPT").as_numpy().reshape(-1)[0].decode().split()
            if words[0] == "raise":
                raise ValueError("raised at once")
            sender = request.get_response_sender()
            if words[0] == "later":
                threading.Thread(target=run, args=(sender, words[1:], request.request_id())).start()
            elif words[0] == "return":
                run(sender, words[1:], request.request_id())
                result = []
            else:
                run(sender, words, request.request_id())
        return result


def run(sender, words, name):
    texts = {"name": name, "cancelled": str(sender.is_cancelled())}
    for number, word in enumerate(words):
        try:
            step(sender, word, number, texts)
        except pb_utils.TritonModelException as error:
            texts["caught"] = str(error)


def step(sender, word, number, texts):
    if word == "send":
        sender.send(response(number, "sent"))
    elif word == "send-final":
        sender.send(response(number, "last"), flags=FINAL)
    elif word == "final":
        sender.send(flags=FINAL)
    elif word == "two-elements":
        sender.send(
            pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([number, number], dtype=np.int32))])
        )
    elif word == "no-outputs":
        sender.send(pb_utils.InferenceResponse([]))
    elif word == "error":
        sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError(f"error {number}")))
    elif word == "not-found":
        sender.send(
            pb_utils.InferenceResponse(error=pb_utils.TritonError("not here", pb_utils.TritonError.NOT_FOUND)),
        )
    elif word == "error-final":
        sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError(f"error {number}")), flags=FINAL)
    elif word == "bad-flags":
        sender.send(response(number, "no"), flags=5)
    elif word == "nothing":
        sender.send()
    else:
        sender.send(response(number, texts[word]))
