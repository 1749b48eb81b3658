"""Whether the tests that need a GPU can run here."""

from importlib.util import find_spec

import pytest

from tensorhub.ipc.gpus import find_gpus


def _missing() -> str:
    if not find_gpus({}):
        return "there is no NVIDIA GPU here"
    return "" if find_spec("cupy") else "CuPy is not installed: pip install 'tensorhub[cuda]'"


needs_gpu = pytest.mark.skipif(bool(_missing()), reason=_missing())
