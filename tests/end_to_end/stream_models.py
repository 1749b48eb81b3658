"""A model repository for the tests of streams: a decoupled model and an ordinary one that take their time."""

from pathlib import Path

_REPEAT_CONFIG = """
backend: "python"
input [
  { name: "COUNT" data_type: TYPE_INT32 dims: [ 1 ] },
  { name: "DELAY_US" data_type: TYPE_INT32 dims: [ 1 ] optional: true },
  { name: "SIZE" data_type: TYPE_INT32 dims: [ 1 ] optional: true }
]
output [
  { name: "NUMBER" data_type: TYPE_INT32 dims: [ 1 ] },
  { name: "DATA" data_type: TYPE_UINT8 dims: [ -1 ] }
]
model_transaction_policy { decoupled: true }
"""

_REPEAT = '''
import threading
import time

import numpy as np
import triton_python_backend_utils as pb_utils


def value(request, name, default):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else int(tensor.as_numpy()[0])


class TritonPythonModel:
    """NUMBER counts to COUNT, from a thread that outlives execute.

    A COUNT of -1 asks how many were cancelled, one of -2 how many have begun.
    """

    def initialize(self, args):
        self.begun = 0
        self.cancelled = 0
        self.lock = threading.Lock()

    def execute(self, requests):
        for request in requests:
            count = value(request, "COUNT", 0)
            arguments = (request.get_response_sender(), count, value(request, "DELAY_US", 0), value(request, "SIZE", 0))
            if count < 0:
                self.send(arguments[0], self.cancelled if count == -1 else self.begun, 0, final=True)
            else:
                self.begun += 1
                threading.Thread(target=self.run, args=arguments).start()

    def send(self, sender, number, size, final=False):
        tensors = [
            pb_utils.Tensor("NUMBER", np.array([number], np.int32)),
            pb_utils.Tensor("DATA", np.full([size], number % 256, np.uint8)),
        ]
        flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0
        sender.send(pb_utils.InferenceResponse(tensors), flags=flags)

    def run(self, sender, count, delay_us, size):
        for number in range(count):
            if sender.is_cancelled():
                with self.lock:
                    self.cancelled += 1
                break
            self.send(sender, number, size)
            if delay_us:
                time.sleep(delay_us / 1e6)
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
'''

INSTANCES = 4
"""Of `slow`."""

_SLOW_CONFIG = f"""
backend: "python"
input {{ name: "DATA" data_type: TYPE_UINT8 dims: [ -1 ] }}
input {{ name: "DELAY_US" data_type: TYPE_INT32 dims: [ 1 ] }}
output {{ name: "DATA" data_type: TYPE_UINT8 dims: [ -1 ] }}
instance_group [ {{ count: {INSTANCES} kind: KIND_CPU }} ]
"""

_SLOW = '''
import time
from pathlib import Path

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Returns DATA after a while; with a negative DELAY_US, when there is a file `open` in its folder."""

    def initialize(self, args):
        self.gate = Path(args["model_repository"], "open")

    def execute(self, requests):
        responses = []
        for request in requests:
            delay_us = int(pb_utils.get_input_tensor_by_name(request, "DELAY_US").as_numpy()[0])
            while delay_us < 0 and not self.gate.exists():
                time.sleep(0.005)
            time.sleep(max(0, delay_us) / 1e6)
            data = pb_utils.get_input_tensor_by_name(request, "DATA").as_numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("DATA", data)]))
        return responses
'''


def write(folder: Path) -> Path:
    """Write the repository and return its folder: `repeat` is decoupled, `slow` is not."""
    for name, config, code in (("repeat", _REPEAT_CONFIG, _REPEAT), ("slow", _SLOW_CONFIG, _SLOW)):
        version = folder / name / "1"
        version.mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(config)
        (version / "model.py").write_text(code)
    return folder
