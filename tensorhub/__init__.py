"""An inference server for the Triton / KServe v2 protocol with shared-memory tensors."""

from tensorhub.version import VERSION as __version__

__all__ = ["__version__"]
