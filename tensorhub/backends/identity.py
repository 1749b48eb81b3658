"""The `identity` backend: every output is an input, and nothing is copied.

Outputs take the input that ends in the same number (INPUT3 for OUTPUT3), or else the one in the same place.
"""

import re
from collections.abc import Sequence
from typing import Any

from tensorhub.backends.port import InstanceSpec, ModelSource
from tensorhub.errors import InvalidArgument
from tensorhub.requests import InferRequest, InferResponse, Tensor
from tensorhub.tensors import DataType

_NUMBER = re.compile(r"\d+$")


class IdentityBackend:
    """See backends.port.Backend."""

    def auto_complete(self, source: ModelSource) -> Any:
        """Return the config as it is: there is no file that could tell more."""
        return source.config

    def load(self, source: ModelSource) -> "IdentityModel":
        """Work out which output is which input."""
        return IdentityModel(_pairs(source.config, source.name))


class IdentityModel:
    """See backends.port.LoadedModel, and ModelInstance: it has no state, so it is its own instance."""

    def __init__(self, pairs: dict[str, str]) -> None:
        self._pairs = pairs

    def new_instance(self, spec: InstanceSpec) -> "IdentityModel":
        """Return itself."""
        return self

    def execute(self, requests: Sequence[InferRequest]) -> None:
        """Answer each request with its inputs; outputs of inputs that were not given are left out."""
        for request in requests:
            inputs = request.inputs
            wanted = [item.name for item in request.requested] or self._pairs
            outputs = [_renamed(inputs[self._pairs[name]], name) for name in wanted if self._pairs[name] in inputs]
            request.respond(InferResponse(outputs))

    def finalize(self) -> None:
        """Do nothing."""

    def unload(self) -> None:
        """Do nothing."""


def _renamed(tensor: Tensor, name: str) -> Tensor:
    return Tensor(name, tensor.datatype, tensor.shape, tensor.data)


def _pairs(config: Any, model: str) -> dict[str, str]:
    """Return output name to input name.

    Raises:
        InvalidArgument: they do not match in number, type or dims.
    """
    inputs, outputs = list(config.input), list(config.output)
    if not inputs or len(inputs) != len(outputs):
        raise InvalidArgument(
            f"model '{model}': the identity backend needs as many outputs as inputs, and at least one; the config has "
            f"{len(inputs)} inputs and {len(outputs)} outputs"
        )
    by_number = {match[0]: item for item in inputs if (match := _NUMBER.search(item.name))}
    named = [by_number.get(match[0]) if (match := _NUMBER.search(item.name)) else None for item in outputs]
    partners = named if len({id(item) for item in named if item is not None}) == len(outputs) else inputs
    pairs = {}
    for output, partner in zip(outputs, partners, strict=True):
        assert partner is not None
        if partner.data_type != output.data_type or list(partner.dims) != list(output.dims):
            raise InvalidArgument(
                f"model '{model}': the identity backend returns input '{partner.name}' as output '{output.name}', but "
                f"the config has {_described(partner)} for the input and {_described(output)} for the output"
            )
        pairs[output.name] = partner.name
    return pairs


def _described(tensor: Any) -> str:
    return f"{DataType.from_config(tensor.data_type).config_name} {list(tensor.dims)}"
