"""The gRPC client of the commands, and its load generator, against a real gRPC server that misbehaves as it is told."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import grpc
import numpy as np
import pytest

from tensorhub.client import rpc, rpc_load
from tensorhub.client.http import Refused, Unreachable
from tensorhub.client.rpc import RpcServer
from tensorhub.client.tensors import Tensor, TensorError
from tensorhub.protocol.messages import ModelInferRequest, ModelInferResponse

ONES = Tensor("A", "INT32", np.ones(2, dtype=np.int32))


@contextmanager
def serving(infer: Callable[[bytes, Any], bytes]) -> Iterator[str]:
    """A server whose ModelInfer is this function of bytes."""
    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(infer)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=None).wait()


def echo(message: bytes, context: Any) -> bytes:
    """Answer with the inputs as outputs."""
    request = ModelInferRequest.FromString(message)
    answer = ModelInferResponse(model_name=request.model_name)
    for item, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        answer.outputs.add(name=item.name, datatype=item.datatype, shape=item.shape)
        answer.raw_output_contents.append(raw)
    return bytes(answer.SerializeToString())


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("127.0.0.1:9", "127.0.0.1:9"),
        ("grpc://host:9/", "host:9"),
        ("host", "host:8001"),
        ("[::1]:9", "[::1]:9"),
    ],
)
def test_addresses(url: str, expected: str) -> None:
    assert rpc.address(url) == expected


@pytest.mark.parametrize("url", ["http://host:8000", "", "grpc://", "host:1/path", "host:port"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        rpc.address(url)


def test_infer() -> None:
    with serving(echo) as target, closing(RpcServer(target)) as server:
        (output,) = server.infer("m", [ONES])
    assert (output.name, output.array.tolist()) == ("A", [1, 1])


def test_errors_have_the_servers_words() -> None:
    def refuse(message: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'm' is not found")
        raise AssertionError

    with serving(refuse) as target, closing(RpcServer(target)) as server:
        with pytest.raises(Refused, match=r"^Request for unknown model: 'm' is not found$") as found:
            server.infer("m", [ONES])
        assert found.value.status == grpc.StatusCode.NOT_FOUND.value[0]
        with pytest.raises(Refused):
            server.metadata("m")


def test_an_answer_without_raw_contents() -> None:
    def bare(message: bytes, context: Any) -> bytes:
        answer = ModelInferResponse()
        answer.outputs.add(name="A", datatype="INT32", shape=[1])
        return bytes(answer.SerializeToString())

    with serving(bare) as target, closing(RpcServer(target)) as server, pytest.raises(TensorError, match="raw"):
        server.infer("m", [ONES])


def test_nobody_is_there() -> None:
    with closing(RpcServer("127.0.0.1:9")) as server, pytest.raises(Unreachable, match="no gRPC server answers"):
        server.metadata("m")
    with pytest.raises(Unreachable, match="gave no answer to 2 requests"):
        rpc_load.run("127.0.0.1:9", [b"", b""], 0.2)


def test_load_keeps_as_many_requests_in_flight_as_there_are() -> None:
    inside, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(3, timeout=60)

    def meet(message: bytes, context: Any) -> bytes:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        together.wait()
        with lock:
            inside -= 1
        return message

    ticks: list[float] = []
    with serving(meet) as target:
        together.reset()
        result = rpc_load.run(target, [b"1", b"2", b"3"], 0.0001, on_tick=ticks.append)
    assert (len(result.latencies_s), result.errors, result.lost, most) == (3, {}, 0, 3)
    assert result.elapsed_s >= max(result.latencies_s) > 0
    assert result.client_s > 0
    assert ticks


def test_load_counts_errors_by_code() -> None:
    def sometimes(message: bytes, context: Any) -> bytes:
        if message == b"bad":
            context.abort(grpc.StatusCode.INTERNAL, "no")
        return message

    with serving(sometimes) as target:
        result = rpc_load.run(target, [b"good", b"bad"], 0.2)
    assert result.latencies_s == sorted(result.latencies_s)
    assert result.latencies_s
    assert list(result.errors) == ["INTERNAL"]
