"""A bare gRPC client for prebuilt messages: no protobuf work in the loop that measures. The importer of grpc."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

import grpc

from tools.bench.errors import BenchError

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
TIMEOUT_S = 60.0
_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class GrpcClient:
    """One channel, for as long as the `with` block lasts. Messages are serialised bytes both ways."""

    def __init__(self, host: str, port: int) -> None:
        self._target = f"{host}:{port}"

    def __enter__(self) -> Self:
        # A subchannel pool of its own: else a second client to the same address would share the connection.
        self._channel = grpc.insecure_channel(self._target, options=(*_OPTIONS, ("grpc.use_local_subchannel_pool", 1)))
        self._infer = self._channel.unary_unary(INFER, request_serializer=None, response_deserializer=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def infer(self, message: bytes) -> bytes:
        """Make one ModelInfer call and return its answer.

        Raises:
            BenchError: the status is not OK.
        """
        try:
            answer: bytes = self._infer(message, timeout=TIMEOUT_S)
        except grpc.RpcError as exc:
            raise BenchError(f"gRPC {exc.code()}: {exc.details()}") from exc
        return answer

    def open_stream(self) -> GrpcStream:
        """Open a ModelStreamInfer call; use it in a `with` block inside this client's."""
        return GrpcStream(self._channel)


class GrpcStream:
    """One open ModelStreamInfer call."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._method = channel.stream_stream(STREAM_INFER, request_serializer=None, response_deserializer=None)
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        self._call = self._method(iter(self._requests.get, None))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._requests.put(None)
        self._call.cancel()

    def exchange(self, messages: Iterable[bytes], responses: int) -> Iterator[bytes]:
        """Send messages at once, and yield as many answers as are expected.

        Raises:
            BenchError: the stream ended or failed.
        """
        for message in messages:
            self._requests.put(message)
        for _ in range(responses):
            try:
                yield next(self._call)
            except StopIteration as exc:
                raise BenchError("the gRPC stream ended before all responses came") from exc
            except grpc.RpcError as exc:
                raise BenchError(f"gRPC stream {exc.code()}: {exc.details()}") from exc
