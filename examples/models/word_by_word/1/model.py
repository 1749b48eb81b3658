"""As many responses as the text has words, sent after `execute` has returned, until the client has gone."""

import threading

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        """Start a thread for each request; a decoupled model returns nothing."""
        for request in requests:
            text = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()[0]
            threading.Thread(target=self.answer, args=(text, request.get_response_sender())).start()

    def answer(self, text, sender):
        for word in text.split():
            if sender.is_cancelled():
                break
            # `send` waits when the client is slow, so that words do not pile up.
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("WORD", np.array([word], dtype=object))]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
