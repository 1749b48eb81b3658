"""An inference server for the Triton / KServe v2 protocol with shared-memory tensors.

`model` and `TensorSpec` make models of Python functions; see docs/models.md.
"""

from typing import TYPE_CHECKING, Any

from tensorhub.version import VERSION as __version__

if TYPE_CHECKING:
    from tensorhub.decorator import ModelDefinitionError, TensorSpec, model

__all__ = ["ModelDefinitionError", "TensorSpec", "__version__", "model"]


def __getattr__(name: str) -> Any:
    """Import the decorator when it is asked for: of the server's own processes none does."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tensorhub import decorator

    return getattr(decorator, name)
