"""One model's tensors as JSON Schemas, and a request that it takes. Pure.

Shapes and types are the model's own, as its metadata shows them, so that a document says before the request what the
worker would say after it.
"""

import math
from typing import Any

from tensorhub.protocol.metadata import model_metadata
from tensorhub.protocol.model_spec import ModelSpec
from tensorhub.protocol.openapi_schemas import Schema, array, data, element, fields, reference
from tensorhub.tensors import DataType

_EXAMPLE_ELEMENTS = 64
"""Of one input, in an example that people are to read."""

_EXAMPLES = {"boolean": False, "string": "text", "integer": 0, "number": 0.0}


def model_components(config: Any) -> dict[str, Schema]:
    """Return the components that are this model's: Input, RequestedOutput, Output and the bodies of generate.

    Args:
        config: a complete `inference.ModelConfig`.
    """
    described = model_metadata(config, ())
    optional = {tensor.name for tensor in config.input if tensor.optional}
    most = config.max_batch_size
    inputs, outputs = described["inputs"], described["outputs"]
    request = fields(
        ("inputs",),
        id={"type": "string"},
        parameters=reference("Parameters"),
        inputs=array(reference("Input"), minItems=len(inputs) - len(optional), maxItems=len(inputs)),
        outputs=array(reference("RequestedOutput")),
    )
    requested = fields(("name",), name={"enum": [tensor["name"] for tensor in outputs]}, parameters={"type": "object"})
    return {
        "InferRequest": request,
        "Input": _one_of([_input(tensor, most) for tensor in inputs]),
        "RequestedOutput": requested,
        "GenerateRequest": {"type": "object", "properties": {tensor["name"]: _bare(tensor) for tensor in inputs}},
    }


def example_request(config: Any) -> dict[str, Any] | None:
    """Return a request in JSON that the model takes, of zeros; where a dimension is free it is 1.

    For a model with sequences it is a whole sequence of one request.

    None if JSON cannot carry one of the inputs, or if it would be too long to read.
    """
    inputs = []
    for tensor in model_metadata(config, ())["inputs"]:
        shape = [1 if dim < 0 else dim for dim in tensor["shape"]]
        schema = _element(tensor)
        count = math.prod(shape)
        if schema is None or count > _EXAMPLE_ELEMENTS:
            return None
        inputs.append({**tensor, "shape": shape, "data": [_EXAMPLES[schema["type"]]] * count})
    if not config.HasField("sequence_batching"):
        return {"inputs": inputs}
    control = ModelSpec.from_config(config, config.name, 1).correlation
    name = "one" if control is not None and control.datatype is DataType.BYTES else 1
    return {"inputs": inputs, "parameters": {"sequence_id": name, "sequence_start": True, "sequence_end": True}}


def describe(config: Any) -> str:
    """Return a sentence about a model."""
    batching = (
        f"takes up to {config.max_batch_size} items in one request" if config.max_batch_size else "does not batch"
    )
    return f"A model of the backend {config.backend or config.platform}, which {batching}."


def _one_of(schemas: list[Schema]) -> Schema:
    return {"oneOf": schemas} if schemas else {"type": "object"}


def _input(tensor: dict[str, Any], max_batch_size: int) -> Schema:
    dims = [_dim(dim) for dim in tensor["shape"]]
    if max_batch_size:
        dims[0] = {"type": "integer", "minimum": 1, "maximum": max_batch_size}
    found = fields(
        ("name", "datatype", "shape"),
        name={"const": tensor["name"]},
        datatype={"const": tensor["datatype"]},
        shape={"type": "array", "minItems": len(dims), "maxItems": len(dims)},
        parameters={"type": "object"},
    )
    if dims:
        found["properties"]["shape"]["prefixItems"] = dims
    content = data(DataType(tensor["datatype"]))
    if content is None:
        found["description"] = "JSON cannot carry this type: send it with the binary tensor data extension."
    else:
        found["properties"]["data"] = content
    return found


def _dim(dim: int) -> Schema:
    return {"type": "integer", "minimum": 0} if dim < 0 else {"const": dim}


def _bare(tensor: dict[str, Any]) -> Schema:
    """A tensor in a generate request: one element, or a list of them."""
    one = _element(tensor)
    return {} if one is None else {"oneOf": [one, array(one)]}


def _element(tensor: dict[str, Any]) -> Schema | None:
    return element(DataType(tensor["datatype"]))
