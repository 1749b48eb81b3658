"""OUTPUT0 = the sum of INPUT0 over the sequence so far."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        return [self.step(request) for request in requests]

    def step(self, request):
        value, start, end, key = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in ("INPUT0", "START", "END", "CORRID")
        )
        sequence = int(key[0, 0])
        total = value if start[0, 0] else self.sums[sequence] + value
        self.sums[sequence] = total
        if end[0, 0]:
            self.sums.pop(sequence, None)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", total)])
