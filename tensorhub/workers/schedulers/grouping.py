"""Which requests may run in one batch. Pure.

A batch is one array for each input, so its requests must agree in the shapes of their rows where the config leaves them
open, unless the input may be ragged; and in which optional inputs they have. A shape tensor says something about the
whole batch, so its values must agree. Source: RequiredEqualInputs and SetConfiguredScheduler in Triton's core.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from tensorhub.requests import InferRequest, flat_view

_WILDCARD = -1


@dataclass(frozen=True, slots=True)
class Grouping:
    """Of one model.

    Attributes:
        by_shape: inputs whose shapes must agree.
        by_value: inputs whose values must agree too.
        by_presence: there are optional inputs.
        batched: shapes begin with the batch dimension, which does not count.
    """

    by_shape: frozenset[str] = frozenset()
    by_value: frozenset[str] = frozenset()
    by_presence: bool = False
    batched: bool = True

    @staticmethod
    def from_config(config: Any) -> "Grouping":
        """Read a complete `inference.ModelConfig`."""
        return Grouping(
            frozenset(
                item.name
                for item in config.input
                if not item.is_shape_tensor and not item.allow_ragged_batch and _is_free(_model_dims(item))
            ),
            frozenset(item.name for item in config.input if item.is_shape_tensor),
            any(item.optional for item in config.input),
            config.max_batch_size > 0,
        )

    @property
    def trivial(self) -> bool:
        """All requests may run together."""
        return not (self.by_shape or self.by_value or self.by_presence)

    def key(self, request: InferRequest) -> Hashable:
        """Return what is equal for requests that may run in one batch."""
        if self.trivial:
            return None
        parts: list[Hashable] = []
        for name in sorted(request.inputs):
            tensor = request.inputs[name]
            if name in self.by_shape:
                parts.append((name, tensor.shape[1:] if self.batched else tensor.shape))
            elif name in self.by_value:
                parts.append((name, tensor.shape, bytes(flat_view(tensor.data))))
            elif self.by_presence:
                parts.append(name)
        return tuple(parts)


def _model_dims(item: Any) -> Iterable[int]:
    dims: Iterable[int] = item.reshape.shape if item.HasField("reshape") else item.dims
    return dims


def _is_free(dims: Iterable[int]) -> bool:
    return _WILDCARD in dims
