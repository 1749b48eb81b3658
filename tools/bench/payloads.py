"""The exact bytes of each workload's request, and the check of the answers to them.

Requests over HTTP are made, and all answers decoded, by the stock tritonclient: what it cannot read is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.grpc import service_pb2
from tritonclient.utils import serialize_byte_tensor

from tools.bench.errors import BenchError
from tools.bench.workloads import SEQUENCES_PER_STREAM, Transport, Workload

SEED = 20240607
FIRST_SEQUENCE = 1000
HEADER_LENGTH = "inference-header-content-length"

Arrays = Mapping[str, np.ndarray[Any, Any]]

_DATATYPES = {
    "add_sub": "INT32",
    "add_sub_chain": "INT32",
    "identity_fp32": "FP32",
    "identity_gpu": "FP32",
    "identity_bytes": "BYTES",
    "countdown": "INT32",
    "dense_batched": "FP32",
    "running_sum": "INT32",
}


@dataclass(frozen=True, slots=True)
class Tensors:
    """What goes in and what must come out of one request; arrays as on the wire, with the batch dimension."""

    datatype: str
    inputs: Arrays
    outputs: Arrays


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A POST, but for the server's address."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Regions:
    """Names under which a client registered the regions of the inputs and of the outputs; tensors lie end to end."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Stream:
    """What is sent on one stream, and what must come back: for each request's id, the answers in order."""

    messages: Sequence[bytes]
    expected: Mapping[str, Sequence[Tensors]]


def tensors(workload: Workload) -> Tensors:
    """Return the arrays of one request; the same at every run."""
    value: np.ndarray[Any, Any]
    random = np.random.default_rng(SEED)
    datatype = _DATATYPES[workload.model]
    if workload.model == "add_sub":
        left, right = random.integers(-1000, 1000, (2, 1, workload.count), dtype=np.int32)
        return Tensors(datatype, {"INPUT0": left, "INPUT1": right}, {"OUTPUT0": left + right, "OUTPUT1": left - right})
    if workload.model == "add_sub_chain":
        # The sum and the difference of a sum and a difference.
        left, right = random.integers(-1000, 1000, (2, 1, workload.count), dtype=np.int32)
        return Tensors(datatype, {"INPUT0": left, "INPUT1": right}, {"OUTPUT0": 2 * left, "OUTPUT1": 2 * right})
    if workload.model == "dense_batched":
        row = random.random((1, workload.count), dtype=np.float32)
        return Tensors(datatype, {"INPUT0": row}, {"OUTPUT0": row[:, ::-1]})
    if workload.model == "running_sum":
        value = random.integers(0, 1000, (1, workload.count), dtype=np.int32)
        return Tensors(datatype, {"INPUT0": value}, {"OUTPUT0": value})
    if workload.model == "countdown":
        return Tensors(datatype, {"INPUT0": np.array([workload.count], dtype=np.int32)}, {})
    if workload.model == "identity_bytes":
        numbers = random.integers(0, 10**9, workload.count)
        value = np.array([b"string %d" % number for number in numbers], dtype=np.object_)
    else:
        value = random.random(workload.count, dtype=np.float32)
    return Tensors(datatype, {"INPUT0": value}, {"OUTPUT0": value})


def http_request(workload: Workload, data: Tensors) -> HttpRequest:
    """Return the inference request over HTTP, as tritonclient makes it."""
    binary = workload.transport is Transport.HTTP_BINARY
    inputs = []
    for name, value in data.inputs.items():
        item = tritonclient.http.InferInput(name, list(value.shape), data.datatype)
        item.set_data_from_numpy(value, binary_data=binary)
        inputs.append(item)
    outputs = [tritonclient.http.InferRequestedOutput(name, binary_data=binary) for name in data.outputs]
    body, json_bytes = tritonclient.http.InferenceServerClient.generate_request_body(inputs, outputs=outputs)
    headers = {"Content-Type": "application/json"}
    if json_bytes is not None:
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(json_bytes)}
    return HttpRequest(
        f"/v2/models/{workload.model}/infer", headers, body.encode() if isinstance(body, str) else bytes(body)
    )


def grpc_request(workload: Workload, data: Tensors, regions: Regions | None = None) -> bytes:
    """Return the serialised ModelInferRequest; with `regions`, tensors are named and not carried."""
    request = _request(workload, data, "", regions)
    if workload.model == "running_sum":
        # All requests are alike: each is a whole sequence, which is what costs a sequence batcher most.
        request.parameters["sequence_id"].int64_param = FIRST_SEQUENCE
        for flag in ("sequence_start", "sequence_end"):
            request.parameters[flag].bool_param = True
    message: bytes = request.SerializeToString()
    return message


def _request(workload: Workload, data: Tensors, key: str, regions: Regions | None = None) -> Any:
    request = service_pb2.ModelInferRequest(model_name=workload.model, id=key)
    offset = 0
    for name, value in data.inputs.items():
        item = request.inputs.add(name=name, datatype=data.datatype, shape=value.shape)
        if regions is None:
            request.raw_input_contents.append(_raw(value))
        else:
            _refer(item, regions.source, value.nbytes, offset)
            offset += value.nbytes
    if regions is not None:
        offset = 0
        for name, value in data.outputs.items():
            _refer(request.outputs.add(name=name), regions.target, value.nbytes, offset)
            offset += value.nbytes
    return request


def check_http(workload: Workload, data: Tensors, headers: Mapping[str, str], body: bytes) -> None:
    """Check an answer over HTTP; `headers` have names in lower case.

    Raises:
        BenchError: an output is not what it must be.
    """
    length = headers.get(HEADER_LENGTH)
    result = tritonclient.http.InferenceServerClient.parse_response_body(
        body, header_length=int(length) if length else None
    )
    _check(workload, data, result)


def check_grpc(workload: Workload, data: Tensors, answer: bytes) -> None:
    """Check a serialised ModelInferResponse.

    Raises:
        BenchError: an output is not what it must be.
    """
    _check(workload, data, tritonclient.grpc.InferResult(service_pb2.ModelInferResponse.FromString(answer)))


def check_array(workload: Workload, name: str, got: np.ndarray[Any, Any] | None, want: np.ndarray[Any, Any]) -> None:
    """Check one output.

    Raises:
        BenchError: it is missing, or its type, shape or an element differs; the message names the first such element.
    """
    where = f"wrong answer to {workload.name}: {name}"
    if got is None:
        raise BenchError(f"{where} is missing")
    if got.dtype != want.dtype or got.shape != want.shape:
        raise BenchError(f"{where} is {got.dtype} {list(got.shape)} and not {want.dtype} {list(want.shape)}")
    if not np.array_equal(got, want):
        first = int(np.argmax(got.ravel() != want.ravel()))
        found, due = (array.ravel()[first : first + 1].tolist()[0] for array in (got, want))
        raise BenchError(f"{where} has {found!r} and not {due!r} at element {first}")


def stream(workload: Workload, data: Tensors, number: int) -> Stream:
    """Return what is sent on the `number`-th stream: each request has an id, by which its answers are known."""
    if workload.model == "countdown":
        answers = [
            Tensors(data.datatype, {}, {"OUTPUT0": np.array([left], np.int32)}) for left in range(workload.count)
        ]
        return Stream([_request(workload, data, "0").SerializeToString()], {"0": answers[::-1]})
    if workload.model == "running_sum":
        return _sequences(workload, number)
    ids = [f"{place:04d}" for place in range(workload.messages)]
    return Stream([_request(workload, data, key).SerializeToString() for key in ids], {key: [data] for key in ids})


def check_stream(workload: Workload, sent: Stream, answers: Iterable[bytes]) -> None:
    """Check the serialised ModelStreamInferResponses to a stream; those to one request must be in order.

    Raises:
        BenchError: one is an error, missing or too many, or an output is not what it must be.
    """
    due = {key: iter(expected) for key, expected in sent.expected.items()}
    for answer in answers:
        response = service_pb2.ModelStreamInferResponse.FromString(answer)
        if response.error_message:
            raise BenchError(f"wrong answer to {workload.name}: {response.error_message}")
        result = response.infer_response
        want = next(due.get(result.id, iter(())), None)
        if want is None:
            raise BenchError(
                f"wrong answer to {workload.name}: one more than is due to the request with id '{result.id}'"
            )
        _check(workload, want, tritonclient.grpc.InferResult(result))
    missing = [key for key, expected in due.items() if next(expected, None) is not None]
    if missing:
        raise BenchError(f"wrong answer to {workload.name}: answers to the requests {', '.join(missing)} are missing")


def _sequences(workload: Workload, number: int) -> Stream:
    """The steps of several sequences, in turn. All ids and numbers have the same length on the wire."""
    messages, expected = [], {}
    totals = np.zeros(SEQUENCES_PER_STREAM, np.int32)
    for step in range(workload.messages // SEQUENCES_PER_STREAM):
        for place in range(SEQUENCES_PER_STREAM):
            value = np.full((1, workload.count), step * place, np.int32)
            totals[place] += step * place
            key = f"{place:02d}-{step:03d}"
            one = Tensors(
                "INT32", {"INPUT0": value}, {"OUTPUT0": np.full((1, workload.count), totals[place], np.int32)}
            )
            request = _request(workload, one, key)
            request.parameters["sequence_id"].int64_param = FIRST_SEQUENCE + number * SEQUENCES_PER_STREAM + place
            if step == 0:
                request.parameters["sequence_start"].bool_param = True
            if (step + 1) * SEQUENCES_PER_STREAM == workload.messages:
                request.parameters["sequence_end"].bool_param = True
            messages.append(request.SerializeToString())
            expected[key] = [one]
    return Stream(messages, expected)


def _check(workload: Workload, data: Tensors, result: Any) -> None:
    for name, want in data.outputs.items():
        check_array(workload, name, result.as_numpy(name), want)


def _raw(value: np.ndarray[Any, Any]) -> bytes:
    if value.dtype == np.object_:
        packed: bytes = serialize_byte_tensor(value).item()
        return packed
    return value.tobytes()


def _refer(tensor: Any, region: str, byte_size: int, offset: int) -> None:
    tensor.parameters["shared_memory_region"].string_param = region
    tensor.parameters["shared_memory_byte_size"].int64_param = byte_size
    if offset:
        tensor.parameters["shared_memory_offset"].int64_param = offset
