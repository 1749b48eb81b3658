"""Whether the tests that need a GPU can run here, and what some of them need besides."""

from importlib.util import find_spec
from typing import Any

import pytest

from tensorhub.ipc.gpus import find_gpus


def _missing() -> str:
    if not find_gpus({}):
        return "there is no NVIDIA GPU here"
    if not find_spec("cupy"):
        return "CuPy is not installed: pip install 'tensorhub[cuda]'"
    import cupy

    try:
        cupy.cuda.nvrtc.getVersion()
    except Exception as exc:
        # The server needs no more than CuPy itself; the arrays of the tests are made by kernels.
        return f"CuPy cannot compile kernels, pip install 'cupy-cuda12x[ctk]': {exc}"
    return ""


needs_gpu = pytest.mark.skipif(bool(_missing()), reason=_missing())


def stock_module() -> Any:
    """Return tritonclient's own module for CUDA regions; the test is skipped if what that needs is not installed."""
    try:
        import tritonclient.utils.cuda_shared_memory as module
    except (ImportError, RuntimeError) as exc:  # the latter is what it makes of the former
        pytest.skip(f"{exc}; pip install 'tritonclient[cuda]'")
    return module
