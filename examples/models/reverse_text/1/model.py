"""Texts in upper case, and backwards. Elements of a BYTES tensor are `bytes`; their text is UTF-8."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        """Answer each request; the shapes of the outputs are those of the input, [batch, n]."""
        responses = []
        for request in requests:
            texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
            try:
                words = [item.decode() for item in texts.ravel()]
            except UnicodeDecodeError:
                error = pb_utils.TritonError("TEXT must be UTF-8")
                responses.append(pb_utils.InferenceResponse(error=error))
                continue
            upper = np.array([word.upper().encode() for word in words], dtype=object).reshape(texts.shape)
            backwards = np.array([word[::-1].encode() for word in words], dtype=object).reshape(texts.shape)
            outputs = [pb_utils.Tensor("UPPER", upper), pb_utils.Tensor("REVERSED", backwards)]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
