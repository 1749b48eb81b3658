"""An inference server for the Triton / KServe v2 protocol with shared-memory tensors.

`model` and `TensorSpec` make models of Python functions; see docs/models.md.
"""

from tensorhub.decorator import ModelDefinitionError, TensorSpec, model
from tensorhub.version import VERSION as __version__

__all__ = ["ModelDefinitionError", "TensorSpec", "__version__", "model"]
