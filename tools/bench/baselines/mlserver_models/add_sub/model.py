"""OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1, as MLServer has its models."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class AddSub(MLModel):
    async def predict(self, payload):
        left, right = (NumpyCodec.decode_input(tensor) for tensor in payload.inputs)
        outputs = [NumpyCodec.encode_output("OUTPUT0", left + right), NumpyCodec.encode_output("OUTPUT1", left - right)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
