"""The ONNX example: a script makes the model, and a server without any configuration serves it."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tensorhub.client.http import Server
from tensorhub.client.tensors import Tensor
from tests.serving import PROJECT, serving

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
pytest.importorskip("onnx", reason="the package onnx, which the example needs, is not installed")


def test_make_classifier(tmp_path: Path) -> None:
    script = PROJECT / "examples" / "onnx" / "make_classifier.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "models")], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.endswith("classifier/1/model.onnx\n")
    with serving(tmp_path, repository=tmp_path / "models") as server, closing(Server(server.http)) as client:
        features = np.random.default_rng(2).normal(size=(4, 8)).astype(np.float32)
        (output,) = client.infer("classifier", [Tensor("FEATURES", "FP32", features)])
        assert output.array.shape == (4, 3)
        assert np.allclose(output.array.sum(axis=1), 1, atol=1e-5)
