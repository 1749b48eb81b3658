"""The rows with CUDA regions, as far as they go without a GPU: on a fake one, with a fake CuPy, and a real server."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tensorhub.client.cuda_memory import CudaMemory
from tests.shm.fake_device import ENVIRON
from tests.tools import fake_cupy
from tools.bench import h2load
from tools.bench.alternation import Plan, compare
from tools.bench.options import GPU_MODELS, PORT_COUNT, TENSORHUB_COMMAND
from tools.bench.report import Row, row
from tools.bench.servers import FreePorts, Launch
from tools.bench.table import WORKLOADS
from tools.bench.workloads import Goal, Workload

BY_NAME = {workload.name: workload for workload in WORKLOADS}

Measure = Callable[[Workload], Row]


@pytest.fixture
def measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measure:
    """Return what measures one row in a short run."""
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy)  # type: ignore[arg-type]
    monkeypatch.setattr(CudaMemory, "of", staticmethod(fake_cupy.memory_of))

    def measured(workload: Workload) -> Row:
        plan = Plan(
            workloads=[workload],
            tensorhub=Launch("tensorhub", TENSORHUB_COMMAND, GPU_MODELS, tmp_path / "log"),
            peer=None,
            gpu_repository=GPU_MODELS,
            ports=FreePorts(21100, PORT_COUNT),
            alternations=1,
            seconds=0.2,
            idle_s=0.0,
            tell=lambda line: None,
        )
        (comparison,) = compare(plan)
        return row(comparison)

    return measured


pytestmark = pytest.mark.skipif(not h2load.installed(), reason=f"needs h2load: apt install {h2load.PACKAGE}")


def test_small_requests_beside_those_with_system_regions(measure: Measure) -> None:
    found = measure(BY_NAME["cuda_small"])
    assert found.tensorhub.value > 0
    assert found.peer is not None
    assert found.peer.value > 0
    assert found.ratio is not None


def test_the_share_of_a_copy(measure: Measure) -> None:
    found = measure(replace(BY_NAME["cuda_64m"], count=1 << 16, goal=Goal(copy_fraction=1e-9)))
    assert (found.peer, found.ratio, found.met) == (None, None, True)
    assert {"copy", "rest"} <= set(found.tensorhub.phases)
