"""gRPC calls with bytes, and protobuf messages as plain values."""

from __future__ import annotations

import queue
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

from .normalise import number
from .turns import AT_ONCE

SERVICE = "/inference.GRPCInferenceService/"
_TIMEOUT_S = 60.0
_NO_CONNECTION = re.compile("failed to connect|Socket closed|Connection reset|recvmsg", re.IGNORECASE)
_SERVICE_DESCRIPTOR = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


@dataclass(frozen=True, slots=True)
class GrpcAnswer:
    """The status of a call, its message, and the serialised response (None unless OK)."""

    code: str
    details: str
    response: bytes | None


def request_bytes(message: Message) -> bytes:
    """A message in the one serialisation that does not depend on the order of its maps."""
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def call(
    address: str,
    path: str,
    body: bytes,
    metadata: Sequence[tuple[str, str]] = (),
    *,
    turn: AbstractContextManager[object] = AT_ONCE,
) -> GrpcAnswer:
    """Call the unary method `path` (`/package.Service/Method`) on a channel of its own.

    Args:
        turn: held while it is sent, over a connection that stands.

    Raises:
        ConnectionError: nobody listens, or the server went away during the call.
    """
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        method = channel.unary_unary(path, request_serializer=None, response_deserializer=None)
        try:
            if turn is not AT_ONCE:
                # Only then: the client looks at the state of a connection five times a second.
                grpc.channel_ready_future(channel).result(_TIMEOUT_S)
            with turn:
                pending = method.future(body, timeout=_TIMEOUT_S, metadata=tuple(metadata))
            response = pending.result()
        except grpc.FutureTimeoutError as error:
            raise ConnectionError(f"no connection to {address} within {_TIMEOUT_S:.0f} s") from error
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE and _NO_CONNECTION.search(error.details() or ""):
                raise ConnectionError(error.details()) from error
            return GrpcAnswer(error.code().name, error.details() or "", None)
    return GrpcAnswer("OK", "", response)


@dataclass(frozen=True, slots=True)
class StreamAnswer:
    """The messages of a stream, serialised, and how it ended."""

    responses: list[bytes]
    code: str
    details: str


def stream(
    address: str, bodies: Sequence[bytes], metadata: Sequence[tuple[str, str]], *, one_by_one: bool
) -> StreamAnswer:
    """Call ModelStreamInfer on a channel of its own; see steps.GrpcStream.

    Raises:
        ConnectionError: nobody listens, or the server went away during the call.
    """
    left = list(bodies)
    requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def send(count: int) -> None:
        for body in left[:count]:
            requests.put(body)
        del left[:count]
        if not left:
            # At once after the last request: a decoupled model need not tell its end.
            requests.put(None)

    responses = []
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        method = channel.stream_stream(SERVICE + "ModelStreamInfer")
        call = method(iter(requests.get, None), metadata=tuple(metadata), timeout=_TIMEOUT_S)
        send(1 if one_by_one else len(left))
        try:
            for response in call:
                responses.append(response)
                if left and _is_last(response):
                    send(1)
        except grpc.RpcError:
            requests.put(None)
            if call.code() is grpc.StatusCode.UNAVAILABLE and _NO_CONNECTION.search(call.details() or ""):
                raise ConnectionError(call.details()) from None
        return StreamAnswer(responses, call.code().name, call.details() or "")


def _is_last(data: bytes) -> bool:
    """Whether a streamed response is the last to its request."""
    response = service_pb2.ModelStreamInferResponse.FromString(data)
    parameters = response.infer_response.parameters
    if "triton_final_response" in parameters:
        return bool(parameters["triton_final_response"].bool_param)
    return bool(response.error_message)


def parse_response(method: str, data: bytes) -> dict[str, Any]:
    """The response of a method of the inference service as a plain value."""
    descriptor = _SERVICE_DESCRIPTOR.methods_by_name[method].output_type
    message = getattr(service_pb2, descriptor.name)()
    message.ParseFromString(data)
    return plain(message)


def plain(message: Message) -> dict[str, Any]:
    """The set fields of a message: integers as numbers, bytes in hexadecimal, enumerators by name, maps sorted."""
    return {descriptor.name: _field(descriptor, value) for descriptor, value in message.ListFields()}


def _field(descriptor: FieldDescriptor, value: Any) -> Any:
    if descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry:
        item = descriptor.message_type.fields_by_name["value"]
        return {str(key): _scalar(item, value[key]) for key in sorted(value)}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_scalar(descriptor, item) for item in value]
    return _scalar(descriptor, value)


def _scalar(descriptor: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, Message):
        return plain(value)
    if isinstance(value, bytes):
        return value.hex()
    if descriptor.enum_type is not None:
        return descriptor.enum_type.values_by_number[value].name
    return number(value) if isinstance(value, float) else value
