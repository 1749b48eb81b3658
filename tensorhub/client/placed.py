"""Requests that name tensors in registered memory and carry none: where each lies, and the two forms of the request.

    inputs' region:   | input | input | ...                one for all requests, which only read it
    outputs' region:  | output | output | | output | ...   a row for each request that may be in flight

Pure. The parameters are those of the system shared memory extension.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tensorhub.client.tensors import Tensor, encode
from tensorhub.protocol.messages import ModelInferRequest


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor is: which it is, and its bytes in its region."""

    tensor: Tensor
    offset: int
    byte_size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Tensors end to end, so many times.

    Attributes:
        row_byte_size: of all tensors once.
    """

    region: str
    places: tuple[Place, ...]
    row_byte_size: int

    @staticmethod
    def of(region: str, tensors: Sequence[Tensor]) -> "Layout":
        """Place tensors, each as large as it is on the wire."""
        places, offset = [], 0
        for tensor in tensors:
            size = len(encode(tensor))
            places.append(Place(tensor, offset, size))
            offset += size
        return Layout(region, tuple(places), offset)

    def content(self) -> bytes:
        """Return the bytes of the tensors, once."""
        return b"".join(encode(place.tensor) for place in self.places)

    def parameters(self, place: Place, row: int) -> dict[str, Any]:
        """Return the parameters of a tensor in a request."""
        offset = row * self.row_byte_size + place.offset
        found: dict[str, Any] = {"shared_memory_region": self.region, "shared_memory_byte_size": place.byte_size}
        return {**found, "shared_memory_offset": offset} if offset else found


def json_request(inputs: Layout, outputs: Layout, row: int) -> bytes:
    """Return the body of the `row`-th request over HTTP."""
    described = [
        {
            "name": place.tensor.name,
            "datatype": place.tensor.datatype,
            "shape": list(place.tensor.array.shape),
            "parameters": inputs.parameters(place, 0),
        }
        for place in inputs.places
    ]
    wanted = [{"name": place.tensor.name, "parameters": outputs.parameters(place, row)} for place in outputs.places]
    return json.dumps({"inputs": described, "outputs": wanted}).encode()


def message(model: str, version: str, inputs: Layout, outputs: Layout, row: int) -> bytes:
    """Return the same as a serialised ModelInferRequest."""
    request = ModelInferRequest(model_name=model, model_version=version)
    for place in inputs.places:
        tensor = place.tensor
        item = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape)
        _set(item, inputs.parameters(place, 0))
    for place in outputs.places:
        _set(request.outputs.add(name=place.tensor.name), outputs.parameters(place, row))
    return bytes(request.SerializeToString())


def _set(item: Any, parameters: dict[str, Any]) -> None:
    for name, value in parameters.items():
        field = "string_param" if isinstance(value, str) else "int64_param"
        setattr(item.parameters[name], field, value)
