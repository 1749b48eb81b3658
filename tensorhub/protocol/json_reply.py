"""A worker's answer as the body of an HTTP response: JSON, and behind it the outputs that are wanted in binary. Pure.

Nothing is copied: the pieces of the body are views of the answer's memory.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from tensorhub.protocol import json_tensors, messages
from tensorhub.protocol.http_infer import EncodedReply, ResponsePlan
from tensorhub.protocol.json_parameters import parameter_value

_PLACE = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size")


def encode_infer(
    plan: ResponsePlan, response_bytes: bytes, outputs: Sequence[bytes | memoryview] | None
) -> EncodedReply:
    """Encode a worker's answer.

    Args:
        response_bytes: a serialised `inference.ModelInferResponse`. An output with the parameter
            `shared_memory_region` has been written there: it is shown without data.
        outputs: the raw contents, if they are not inside; views of them are in the result.

    Raises:
        InvalidArgument: an output of a type that JSON cannot carry is wanted in JSON.
        InternalError: an output's size contradicts its shape.
    """
    response = messages.ModelInferResponse.FromString(response_bytes)
    contents = response.raw_output_contents if outputs is None else outputs
    document = describe(response)
    chunks: list[bytes | memoryview] = [b""]
    for entry, tensor, data in zip(document["outputs"], response.outputs, contents, strict=True):
        if "shared_memory_region" in tensor.parameters:
            pass
        elif plan.wants_binary(entry["name"]):
            entry["parameters"] = {"binary_data_size": len(data)}
            if len(data):
                chunks.append(data)
        else:
            entry["data"] = json_tensors.to_json(entry["name"], entry["datatype"], entry["shape"], data)
    chunks[0] = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return EncodedReply(len(chunks[0]) if len(chunks) > 1 else None, chunks)


def describe(response: Any) -> dict[str, Any]:
    """Return the JSON document of an `inference.ModelInferResponse`, without the data of its outputs."""
    document: dict[str, Any] = {}
    if response.id:
        document["id"] = response.id
    document["model_name"] = response.model_name
    document["model_version"] = response.model_version
    if response.parameters:
        document["parameters"] = {name: parameter_value(value) for name, value in response.parameters.items()}
    document["outputs"] = [
        {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)} for tensor in response.outputs
    ]
    for entry, tensor in zip(document["outputs"], response.outputs, strict=True):
        if is_handed_out(tensor):
            entry["parameters"] = {name: parameter_value(tensor.parameters[name]) for name in _PLACE}
        elif "shared_memory_byte_size" in tensor.parameters:
            # The region was made as large as the output needed: the client learns how much that is.
            entry["parameters"] = {"shared_memory_byte_size": tensor.parameters["shared_memory_byte_size"].int64_param}
    return document


def is_handed_out(tensor: Any) -> bool:
    """Whether the server has made a region for an output of a response, which names it."""
    return "shared_memory_offset" in tensor.parameters
