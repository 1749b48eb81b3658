import numpy as np
import triton_python_backend_utils as pb_utils

_TYPES = {
    "FP32": np.float32,
    "FP64": np.float64,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "FP16": np.float16,
    "BOOL": np.bool_,
}


class TritonPythonModel:
    """Each output is VALUES in its type; SQUARE has them twice, the second time negative."""

    def execute(self, requests):
        return [self._one(request) for request in requests]

    def _one(self, request):
        values = pb_utils.get_input_tensor_by_name(request, "VALUES").as_numpy()
        with np.errstate(all="ignore"):
            tensors = [pb_utils.Tensor(name, values.astype(dtype)) for name, dtype in _TYPES.items()]
        tensors.append(pb_utils.Tensor("BYTES", np.array([str(value) for value in values], dtype=np.object_)))
        tensors.append(pb_utils.Tensor("SQUARE", np.stack([values, -values]).astype(np.float32)))
        return pb_utils.InferenceResponse(tensors)
