import numpy as np
import triton_python_backend_utils as pb_utils


def _about(tensor):
    array = tensor.as_numpy()
    flags = array.flags
    kind = "object" if array.dtype == object else array.dtype.str
    elements = sorted({type(item).__name__ for item in array.ravel().tolist()})
    return (
        f"{tensor.name()} {kind} {array.shape} {tensor.shape()} {tensor.is_cpu()} {flags.c_contiguous} "
        f"{flags.writeable} {tensor.__dlpack_device__()} {elements}"
    )


class TritonPythonModel:
    """Gives every input back under its name, doubled where it is a number, and says in REPORT how it looked."""

    def execute(self, requests):
        responses = []
        for request in requests:
            report, tensors = [], []
            for tensor in request.inputs():
                array = tensor.as_numpy()
                report.append(_about(tensor))
                tensors.append(
                    pb_utils.Tensor(tensor.name(), array if array.dtype in (object, bool) else array + array)
                )
            tensors.append(pb_utils.Tensor("REPORT", np.array(report, dtype=object)))
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
        return responses
