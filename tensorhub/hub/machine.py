"""The host's processor, memory and GPUs, for the metrics page.

Looked at when somebody asks, and not more often than the interval of `--metrics-interval-ms`. Triton looks at each
interval whether somebody asks or not: a gauge on its page is up to an interval old, as here, but its server is never
idle, and of what happens between two scrapes only the last interval is seen. Here the utilization of the processor is
that since the look before, so that nothing is left out.
"""

import logging
import time
from pathlib import Path
from typing import Any

from tensorhub.protocol.exposition import COUNTER, GAUGE, Family

log = logging.getLogger(__name__)


class Processor:
    """The processor and the memory, from /proc (see proc_stat(5) and proc_meminfo(5))."""

    def __init__(self, interval_s: float, proc: Path = Path("/proc")) -> None:
        self._interval_s = interval_s
        self._proc = proc
        self._seen = self._times()
        self._looked_at = time.monotonic()
        self._utilization = 0.0
        self._families: list[Family] = []

    def families(self) -> list[Family]:
        """Return what was to be seen an interval ago at most."""
        now = time.monotonic()
        due = now - self._looked_at >= self._interval_s
        if due:
            busy, total = self._times()
            passed = total - self._seen[1]
            self._utilization = (busy - self._seen[0]) / passed if passed > 0 else 0.0
            self._seen, self._looked_at = (busy, total), now
        if due or not self._families:
            self._families = self._look()
        return self._families

    def _look(self) -> list[Family]:
        memory_total, available = self._memory()
        return [
            _gauge("nv_cpu_utilization", "CPU utilization rate [0.0 - 1.0]", self._utilization),
            _gauge("nv_cpu_memory_total_bytes", "CPU total memory (RAM), in bytes", memory_total),
            _gauge("nv_cpu_memory_used_bytes", "CPU used memory (RAM), in bytes", memory_total - available),
        ]

    def _times(self) -> tuple[int, int]:
        """Return (busy, all) in ticks since the start of the host; guests' time is part of the user's already."""
        fields = (self._proc / "stat").read_text().split("\n", 1)[0].split()
        user, nice, system, idle, iowait, irq, softirq, steal = (int(item) for item in fields[1:9])
        busy = user + nice + system + irq + softirq + steal
        return busy, busy + idle + iowait

    def _memory(self) -> tuple[int, int]:
        """Return (total, available) in bytes."""
        values = {}
        for line in (self._proc / "meminfo").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in ("MemTotal", "MemAvailable"):
                values[name] = int(rest.split()[0]) * 1024
        return values["MemTotal"], values["MemAvailable"]


def _gauge(name: str, text: str, value: float) -> Family:
    family = Family(name, text, GAUGE)
    family.add({}, value)
    return family


class Gpus:
    """The GPUs, by NVIDIA's management library; none if the library, a driver or a GPU is missing."""

    def __init__(self, interval_s: float, library: Any = None) -> None:
        self._interval_s = interval_s
        self._library = library
        self._handles: list[tuple[str, Any]] = []
        self._energy_at_start: dict[str, int] = {}
        self._families: list[Family] = []
        self._looked_at = float("-inf")
        if library is not None:
            self._open()

    def _open(self) -> None:
        try:
            self._library.nvmlInit()
            for index in range(self._library.nvmlDeviceGetCount()):
                handle = self._library.nvmlDeviceGetHandleByIndex(index)
                uuid = self._library.nvmlDeviceGetUUID(handle)
                self._handles.append((uuid, handle))
                self._energy_at_start[uuid] = self._read("nvmlDeviceGetTotalEnergyConsumption", handle) or 0
        except self._library.NVMLError as exc:
            log.info("no GPU metrics: %s", exc)

    def _read(self, name: str, handle: Any) -> Any:
        """Return what a function of the library says; None if this GPU cannot say it."""
        try:
            return getattr(self._library, name)(handle)
        except self._library.NVMLError:
            return None

    def families(self) -> list[Family]:
        """Return what is to be seen now; what a GPU cannot tell is left out."""
        now = time.monotonic()
        if self._handles and now - self._looked_at >= self._interval_s:
            self._families, self._looked_at = self._look(), now
        return self._families

    def _look(self) -> list[Family]:
        utilization = Family("nv_gpu_utilization", "GPU utilization rate [0.0 - 1.0)", GAUGE)
        total = Family("nv_gpu_memory_total_bytes", "GPU total memory, in bytes", GAUGE)
        used = Family("nv_gpu_memory_used_bytes", "GPU used memory, in bytes", GAUGE)
        power = Family("nv_gpu_power_usage", "GPU power usage in watts", GAUGE)
        limit = Family("nv_gpu_power_limit", "GPU power management limit in watts", GAUGE)
        energy = Family(
            "nv_energy_consumption", "GPU energy consumption in joules since the Triton Server started", COUNTER
        )
        for uuid, handle in self._handles:
            labels = {"gpu_uuid": uuid}
            if (rates := self._read("nvmlDeviceGetUtilizationRates", handle)) is not None:
                utilization.add(labels, rates.gpu / 100)
            if (memory := self._read("nvmlDeviceGetMemoryInfo", handle)) is not None:
                total.add(labels, memory.total)
                used.add(labels, memory.used)
            for family, name in (
                (power, "nvmlDeviceGetPowerUsage"),
                (limit, "nvmlDeviceGetPowerManagementLimit"),
            ):
                if (milliwatts := self._read(name, handle)) is not None:
                    family.add(labels, milliwatts / 1000)
            if (millijoules := self._read("nvmlDeviceGetTotalEnergyConsumption", handle)) is not None:
                energy.add(labels, (millijoules - self._energy_at_start[uuid]) / 1000)
        return [utilization, total, used, power, limit, energy]


def nvml() -> Any:
    """Return NVIDIA's management library for Python, or None where the extra `gpu` is not installed."""
    try:
        import pynvml
    except ImportError:
        return None
    return pynvml
