"""OUTPUT0 = INPUT0, by way of a NumPy array, as MLServer has its models."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Identity(MLModel):
    async def predict(self, payload):
        value = NumpyCodec.decode_input(payload.inputs[0])
        output = NumpyCodec.encode_output("OUTPUT0", value)
        output.shape = list(value.shape)  # it makes a column of a vector
        return InferenceResponse(model_name=self.name, outputs=[output])
