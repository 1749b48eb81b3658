"""The least that a gRPC inference server in Python does: grpc.server, a few threads, and the function in the handler.

    python -m tools.bench.baselines.grpc_server HTTP_PORT GRPC_PORT

It serves ModelInfer for the bench's models by the same messages as Triton, and answers GET on the HTTP port with 200,
so that it can be waited for. Nothing is checked, nothing is isolated: what tensorhub costs more is what it gives more.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

SERVICE = "inference.GRPCInferenceService"
HOST = "127.0.0.1"
THREADS = 8

Arrays = Mapping[str, Any]


def add_sub(inputs: Arrays) -> Arrays:
    """OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1."""
    left, right = inputs["INPUT0"], inputs["INPUT1"]
    return {"OUTPUT0": left + right, "OUTPUT1": left - right}


def identity(inputs: Arrays) -> Arrays:
    """OUTPUT0 = INPUT0."""
    return {"OUTPUT0": inputs["INPUT0"]}


FUNCTIONS: Mapping[str, Callable[[Arrays], Arrays]] = {
    "add_sub": add_sub,
    "identity_fp32": identity,
    "identity_bytes": identity,
}
DTYPES = {"INT32": np.int32, "FP32": np.float32}


def model_infer(request: Any, context: grpc.ServicerContext) -> Any:
    """Decode, call, encode: ModelInferRequest to ModelInferResponse, tensors as raw contents."""
    inputs = {
        tensor.name: decode(tensor.datatype, tensor.shape, raw)
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
    }
    datatype = request.inputs[0].datatype
    response = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
    for name, value in FUNCTIONS[request.model_name](inputs).items():
        response.outputs.add(name=name, datatype=datatype, shape=value.shape)
        response.raw_output_contents.append(encode(value))
    return response


def decode(datatype: str, shape: Any, raw: bytes) -> Any:
    """Return the array of raw contents."""
    if datatype == "BYTES":
        return deserialize_bytes_tensor(raw).reshape(shape)
    return np.frombuffer(raw, DTYPES[datatype]).reshape(shape)


def encode(value: Any) -> bytes:
    """Return the raw contents of an array."""
    if value.dtype == np.object_:
        packed: bytes = serialize_byte_tensor(value).item()
        return packed
    return bytes(value.tobytes())


class Ready(BaseHTTPRequestHandler):
    """Answers every GET with 200."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def main(http_port: int, grpc_port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(THREADS), options=limits)
    handler = grpc.unary_unary_rpc_method_handler(
        model_infer,
        request_deserializer=service_pb2.ModelInferRequest.FromString,
        response_serializer=service_pb2.ModelInferResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": handler})])
    server.add_insecure_port(f"{HOST}:{grpc_port}")
    server.start()
    ready = ThreadingHTTPServer((HOST, http_port), Ready)
    threading.Thread(target=ready.serve_forever, daemon=True).start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.stop(grace=1).wait()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(*map(int, sys.argv[1:3]))
