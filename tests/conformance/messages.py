"""Builders of requests, so that the tables of cases show only what a case is about."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from tritonclient.grpc import service_pb2 as pb

from .steps import Grpc, Http

Parameter: TypeAlias = bool | int | float | str
Json: TypeAlias = dict[str, Any]


def compact(value: object) -> bytes:
    """JSON text without spaces; NaN and infinities as the bare words that Triton reads."""
    return json.dumps(value, separators=(",", ":")).encode()


def strings(*values: bytes) -> bytes:
    """The binary form of a BYTES tensor: each element after its length, 32 bits, little-endian."""
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


# --- HTTP


def tensor(name: str, datatype: str, shape: object, data: object = None, **parameters: object) -> Json:
    """An input of a JSON request; without data and parameters if they are not given. The shape may be a wrong one."""
    entry: Json = {"name": name, "datatype": datatype, "shape": shape}
    if data is not None:
        entry["data"] = data
    if parameters:
        entry["parameters"] = parameters
    return entry


def output(name: str, **parameters: object) -> Json:
    """A requested output."""
    return {"name": name, "parameters": parameters} if parameters else {"name": name}


def post(path: str, value: object) -> Http:
    """POST of a JSON value."""
    return Http("POST", path, compact(value))


def infer(model: str, inputs: object, outputs: object = None, version: str = "", **members: object) -> Http:
    """An inference request in JSON; `members` are further members of the request."""
    value: Json = {**members, "inputs": inputs}
    if outputs is not None:
        value["outputs"] = outputs
    return post(infer_path(model, version), value)


def infer_path(model: str, version: str = "") -> str:
    """The path of a model's (version's) infer endpoint."""
    return f"/v2/models/{model}/versions/{version}/infer" if version else f"/v2/models/{model}/infer"


def infer_binary(model: str, value: object, payload: bytes, length: str | None = None) -> Http:
    """An inference request with the binary extension; `length` replaces the true length of the JSON in its header."""
    head = compact(value)
    return Http(
        "POST",
        infer_path(model),
        head + payload,
        (("Inference-Header-Content-Length", str(len(head)) if length is None else length),),
    )


def infer_raw(model: str, payload: bytes) -> Http:
    """A raw binary request: the body is the model's one input."""
    return Http("POST", infer_path(model), payload, (("Inference-Header-Content-Length", "0"),))


# --- gRPC


def parameter(value: Parameter) -> pb.InferParameter:
    """An InferParameter of the type that a value has."""
    match value:
        case bool():
            return pb.InferParameter(bool_param=value)
        case int():
            return pb.InferParameter(int64_param=value)
        case float():
            return pb.InferParameter(double_param=value)
        case str():
            return pb.InferParameter(string_param=value)


def _parameters(target: Any, values: Mapping[str, Parameter | pb.InferParameter]) -> None:
    for key, value in values.items():
        target[key].CopyFrom(value if isinstance(value, pb.InferParameter) else parameter(value))


def grpc_tensor(
    name: str,
    datatype: str,
    shape: Sequence[int],
    contents: Mapping[str, Sequence[Any]] | None = None,
    /,
    **parameters: Parameter | pb.InferParameter,
) -> pb.ModelInferRequest.InferInputTensor:
    """An input; `contents` are fields of InferTensorContents."""
    entry = pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    if contents is not None:
        entry.contents.CopyFrom(pb.InferTensorContents(**contents))
    _parameters(entry.parameters, parameters)
    return entry


def grpc_output(
    name: str, **parameters: Parameter | pb.InferParameter
) -> pb.ModelInferRequest.InferRequestedOutputTensor:
    """A requested output."""
    entry = pb.ModelInferRequest.InferRequestedOutputTensor(name=name)
    _parameters(entry.parameters, parameters)
    return entry


def grpc_infer(
    model: str,
    inputs: Sequence[pb.ModelInferRequest.InferInputTensor],
    raw: Sequence[bytes] = (),
    outputs: Sequence[pb.ModelInferRequest.InferRequestedOutputTensor] = (),
    parameters: Mapping[str, Parameter | pb.InferParameter] | None = None,
    **fields: str,
) -> Grpc:
    """A ModelInfer call; `fields` are id or model_version."""
    request = pb.ModelInferRequest(model_name=model, inputs=inputs, outputs=outputs, raw_input_contents=raw, **fields)
    _parameters(request.parameters, parameters or {})
    return Grpc("ModelInfer", request)
