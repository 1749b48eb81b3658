"""Models that decoded requests are for."""

from types import SimpleNamespace
from typing import Any

from tensorhub.protocol import messages


def target(*inputs: tuple[str, int, list[int]], max_batch_size: int = 0, model: str = "m") -> Any:
    """Return what a frontend knows of a model with these inputs: name, data type and dims."""
    config = messages.ModelConfig(name=model, max_batch_size=max_batch_size)
    for name, data_type, dims in inputs:
        config.input.add(name=name, data_type=data_type, dims=dims)
    return SimpleNamespace(model=model, config=config)
