import json
import time
import uuid
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """REPORT = what the requests of the batch were, as JSON.

    A batch takes the milliseconds of its largest INPUT0; one of -1 is held until the gate beside the repository is
    open. Each that is below 0 leaves a mark there.
    """

    def initialize(self, args):
        self._gate = Path(args["model_repository"]).parent.parent / "gate"
        self._shape = [1, 1] if json.loads(args["model_config"])["max_batch_size"] else [1]

    def execute(self, requests):
        reports = [self._report(request) for request in requests]
        nulls = [report for report in reports if self._is_null(report)]
        for report in nulls:
            del report["inputs"]["INPUT0"][2]
        batch = {"batch": [request.request_id() for request in requests], "nulls": nulls}
        self._take_time([report["inputs"]["INPUT0"][2][0] for report in reports if report not in nulls])
        return [self._response(batch, report) for report in reports]

    def _take_time(self, milliseconds):
        for _ in filter(lambda item: item < 0, milliseconds):
            (self._gate / f"held-{uuid.uuid4()}").touch()
        while -1 in milliseconds and not (self._gate / "open").exists():
            time.sleep(0.005)
        # Never at once: a server may run quick models on a thread that has more to do, which a held one would stop.
        time.sleep(max(2, *milliseconds) / 1000)

    def _is_null(self, report):
        """A slot of a sequence batcher without a request; its INPUT0 holds anything."""
        return report["inputs"].get("READY", [0, 0, [1]])[2][0] in (0, False)

    def _report(self, request):
        return {
            "flags": request.flags(),
            "correlation_id": request.correlation_id(),
            "inputs": {
                tensor.name(): self._input(tensor) for tensor in sorted(request.inputs(), key=lambda i: i.name())
            },
        }

    def _input(self, tensor):
        values = tensor.as_numpy()
        flat = [item.decode() if isinstance(item, bytes) else item for item in values.reshape(-1).tolist()]
        return [str(values.dtype), list(values.shape), flat]

    def _response(self, batch, report):
        shape = [report["inputs"]["INPUT0"][1][0], 1] if len(self._shape) == 2 else self._shape
        text = json.dumps({**batch, **report}, sort_keys=True)
        return pb_utils.InferenceResponse([pb_utils.Tensor("REPORT", np.full(shape, text.encode(), dtype=np.object_))])
