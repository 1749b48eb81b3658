"""The host's figures, from a /proc and a management library made for the test."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tensorhub.hub.machine import Gpus, Processor
from tensorhub.protocol.exposition import Family, render


def values(families: list[Family]) -> dict[str, float]:
    return {family.name: family.lines[0][2] for family in families if family.lines}


def write(proc: Path, busy: int, idle: int) -> None:
    (proc / "stat").write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 2 3\n")


def test_the_processor_is_as_busy_as_since_the_look_before(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  400 kB\n")
    write(tmp_path, 100, 100)
    processor = Processor(0.0, tmp_path)
    write(tmp_path, 130, 110)
    found = values(processor.families())
    assert found == {
        "nv_cpu_utilization": 0.75,
        "nv_cpu_memory_total_bytes": 1_024_000,
        "nv_cpu_memory_used_bytes": 614_400,
    }
    assert values(processor.families())["nv_cpu_utilization"] == 0


def test_looks_are_not_more_frequent_than_they_should_be(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  1000 kB\nMemAvailable:  400 kB\n")
    write(tmp_path, 100, 100)
    processor = Processor(3_600.0, tmp_path)
    write(tmp_path, 200, 100)
    before = values(processor.families())
    assert before["nv_cpu_utilization"] == 0
    (tmp_path / "meminfo").write_text("MemTotal:  1000 kB\nMemAvailable:  1 kB\n")
    assert values(processor.families()) == before, "all gauges are of one look"


def test_the_real_one() -> None:
    found = values(Processor(0.0).families())
    assert 0 <= found["nv_cpu_utilization"] <= 1
    assert 0 < found["nv_cpu_memory_used_bytes"] < found["nv_cpu_memory_total_bytes"]


class FakeLibrary:
    """Two GPUs, of which the second cannot tell its power."""

    class NVMLError(Exception):
        pass

    def __init__(self, count: int = 2) -> None:
        self.count = count
        self.energy = 1_000

    def nvmlInit(self) -> None:  # noqa: N802
        if self.count == 0:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return f"GPU-{handle}"

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=25, memory=1)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(total=80, used=20)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802
        return self._power(handle, 120_500)

    def nvmlDeviceGetPowerManagementLimit(self, handle: int) -> int:  # noqa: N802
        return self._power(handle, 700_000)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:  # noqa: N802
        return self._power(handle, self.energy)

    def _power(self, handle: int, value: int) -> int:
        if handle == 1:
            raise self.NVMLError("Not Supported")
        return value


def test_gpus_tell_what_they_can() -> None:
    library = FakeLibrary()
    gpus = Gpus(0.0, library)
    library.energy = 3_500
    lines = [line for line in render(gpus.families()).splitlines() if not line.startswith("#")]
    assert lines == [
        'nv_gpu_utilization{gpu_uuid="GPU-0"} 0.25',
        'nv_gpu_utilization{gpu_uuid="GPU-1"} 0.25',
        'nv_gpu_memory_total_bytes{gpu_uuid="GPU-0"} 80',
        'nv_gpu_memory_total_bytes{gpu_uuid="GPU-1"} 80',
        'nv_gpu_memory_used_bytes{gpu_uuid="GPU-0"} 20',
        'nv_gpu_memory_used_bytes{gpu_uuid="GPU-1"} 20',
        'nv_gpu_power_usage{gpu_uuid="GPU-0"} 120.5',
        'nv_gpu_power_limit{gpu_uuid="GPU-0"} 700',
        'nv_energy_consumption{gpu_uuid="GPU-0"} 2.5',
    ]


@pytest.mark.parametrize("library", [None, FakeLibrary(0)])
def test_without_gpus_there_are_no_families(library: Any) -> None:
    assert Gpus(0.0, library).families() == []
