"""A decoupled model on threads of its own: `execute` returns at once, and the responses follow."""

import threading
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.threads = set()

    def execute(self, requests):
        for request in requests:
            thread = threading.Thread(target=self._respond, args=(request, request.get_response_sender()))
            self.threads.add(thread)
            thread.start()

    def _respond(self, request, sender):
        values = pb_utils.get_input_tensor_by_name(request, "VALUES").as_numpy()
        delays = pb_utils.get_input_tensor_by_name(request, "DELAYS_MS")
        pauses = delays.as_numpy() / 1000 if delays is not None else np.zeros(len(values))
        for index, (value, pause_s) in enumerate(zip(values, pauses, strict=True)):
            time.sleep(pause_s)
            if sender.is_cancelled():
                break
            outputs = [
                pb_utils.Tensor("VALUE", np.array([value], dtype=np.int32)),
                pb_utils.Tensor("INDEX", np.array([index], dtype=np.uint32)),
            ]
            sender.send(pb_utils.InferenceResponse(outputs))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        self.threads.discard(threading.current_thread())

    def finalize(self):
        for thread in list(self.threads):
            thread.join()
