"""One connection to a server of the v2 protocol, over gRPC: what `client.http` is over HTTP, with the same errors."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import grpc

from tensorhub.client.http import Refused, Unreachable
from tensorhub.client.tensors import Tensor, TensorError, decode, encode
from tensorhub.protocol.messages import ModelInferRequest, ModelInferResponse, message_class

DEFAULT_URL = "127.0.0.1:8001"
INFER = "ModelInfer"
_SERVICE = "/inference.GRPCInferenceService/"
_NO_LIMITS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
# Else two channels to one address would share a connection.
_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


def address(url: str) -> str:
    """Return host:port of an address, which may have grpc:// before it.

    Raises:
        ValueError: it is not such an address.
    """
    parts = urlsplit(url if "://" in url else f"grpc://{url}")
    if parts.scheme != "grpc" or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError(f"'{url}' is not an address of gRPC such as {DEFAULT_URL}")
    return parts.netloc if parts.port else f"{parts.netloc}:8001"


def open_channel(target: str) -> grpc.Channel:
    """Return a channel with a connection of its own, which is made at the first call."""
    return grpc.insecure_channel(target, options=(*_NO_LIMITS, *_OWN_CONNECTION))


def method(channel: grpc.Channel, name: str) -> Any:
    """Return what calls a method with the bytes of its request, and returns those of its response."""
    return channel.unary_unary(_SERVICE + name, request_serializer=None, response_deserializer=None)


class RpcServer:
    """A server at `url`: host:port. Not for several threads at once; `close` it."""

    def __init__(self, url: str = DEFAULT_URL, timeout_s: float = 60.0) -> None:
        """Take the address; nothing is connected before the first call.

        Raises:
            ValueError: it is not such an address.
        """
        self.url = address(url)
        self._timeout_s = timeout_s
        self._channel = open_channel(self.url)

    def __repr__(self) -> str:
        return f"<RpcServer {self.url}>"

    def close(self) -> None:
        """Close the connection for good."""
        self._channel.close()

    def metadata(self, model: str, version: str = "") -> Any:
        """Return the metadata of a model, in the form that it has over HTTP.

        Raises:
            Refused: the server has no such model.
            Unreachable: nobody answers.
        """
        found = self._call("ModelMetadata", name=model, version=version)
        return {
            kind: [{"name": item.name, "datatype": item.datatype, "shape": list(item.shape)} for item in tensors]
            for kind, tensors in (("inputs", found.inputs), ("outputs", found.outputs))
        }

    def infer(self, model: str, inputs: Sequence[Tensor], *, version: str = "") -> list[Tensor]:
        """Run a model once and return its outputs.

        Raises:
            Refused: the server or the model has an error.
            TensorError: what came back is not a response.
            Unreachable: nobody answers.
        """
        answer = ModelInferResponse.FromString(self._exchange(INFER, infer_message(model, version, inputs)))
        if len(answer.raw_output_contents) != len(answer.outputs):
            raise TensorError("the server's answer has outputs without raw contents")
        return [
            Tensor(item.name, item.datatype, decode(raw, item.datatype, tuple(item.shape)))
            for item, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
        ]

    def register_system(self, name: str, key: str, byte_size: int, offset: int = 0) -> None:
        """Register a segment of shared memory.

        Raises:
            Refused: the server does not take it; its text.
            Unreachable: nobody answers.
        """
        self._call("SystemSharedMemoryRegister", name=name, key=key, byte_size=byte_size, offset=offset)

    def unregister_system(self, name: str) -> None:
        """Let a segment go; one that is not registered is gone already.

        Raises:
            Refused: this client may not.
            Unreachable: nobody answers.
        """
        self._call("SystemSharedMemoryUnregister", name=name)

    def _call(self, method_name: str, **fields: Any) -> Any:
        message = message_class(f"inference.{method_name}Request")(**fields)
        answer = self._exchange(method_name, message.SerializeToString())
        return message_class(f"inference.{method_name}Response").FromString(answer)

    def _exchange(self, name: str, message: bytes) -> bytes:
        try:
            answer: bytes = method(self._channel, name)(message, timeout=self._timeout_s)
        except grpc.RpcError as exc:
            code, text = exc.code(), (exc.details() or "").partition("\n")[0]
            if code is grpc.StatusCode.UNAVAILABLE and not text.startswith("Request for"):
                raise Unreachable(f"no gRPC server answers at {self.url}, and HTTP has another port: {text}") from exc
            raise Refused(code.value[0], text or code.name) from exc
        return answer


def infer_message(model: str, version: str, inputs: Sequence[Tensor]) -> bytes:
    """Return a serialised ModelInferRequest with raw contents."""
    request = ModelInferRequest(model_name=model, model_version=version)
    for tensor in inputs:
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape)
        request.raw_input_contents.append(encode(tensor))
    return bytes(request.SerializeToString())
