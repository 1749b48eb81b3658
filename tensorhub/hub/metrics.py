"""Makes the metrics page of what the hub's state and the processes' reports say."""

from collections.abc import Callable, Sequence
from typing import Any

from tensorhub.hub import inventory, machine
from tensorhub.hub.metrics_page import (
    ProcessGauge,
    ServedModel,
    ServerGauge,
    batch_families,
    cache_families,
    latency_families,
    model_families,
    server_families,
)
from tensorhub.hub.state import HubState
from tensorhub.hub.statistics import StatisticsBook
from tensorhub.protocol import custom_metrics, exposition, messages
from tensorhub.protocol.exposition import GAUGE, Family
from tensorhub.protocol.metrics_config import MetricsConfig
from tensorhub.settings import Settings

_ROLES = ("worker", "http", "grpc")

_PINNED = (
    ("nv_pinned_memory_pool_total_bytes", "Pinned memory pool total memory size, in bytes"),
    ("nv_pinned_memory_pool_used_bytes", "Pinned memory pool used memory size, in bytes"),
)


class MetricsPage:
    """See the module.

    Raises:
        InvalidArgument: `--metrics-config` has a value that is none.
    """

    def __init__(self, chosen: Settings, state: HubState, book: StatisticsBook) -> None:
        self._state = state
        self._book = book
        self._config = MetricsConfig.read(chosen.metrics.metrics_config)
        scopes = {item.scope for item in chosen.cache.cache_config}
        self._caches = bool(scopes)
        self._cache_is_local = "local" in scopes
        interval_s = chosen.metrics.metrics_interval_ms / 1000
        self._machine: list[Callable[[], list[Family]]] = []
        if chosen.metrics.allow_gpu_metrics:
            self._machine.append(machine.Gpus(interval_s, machine.nvml()).families)
        if chosen.metrics.allow_cpu_metrics:
            self._machine.append(machine.Processor(interval_s).families)

    def render(self) -> str:
        """Return the page, of what is known now."""
        models = self._models()
        newest = [report for pid in self._state.processes if (report := self._book.newest(pid)) is not None]
        families = [*model_families(models, self._config), *_pinned(newest)]
        for look in self._machine:
            families += look()
        if self._caches:
            families += cache_families(models, [report.cache for report in newest], local=self._cache_is_local)
        families += latency_families(models, self._config)
        families += batch_families(models)
        families += server_families(self._server(), self._processes())
        families += custom_metrics.merge(report.families for report in newest)
        return exposition.render(families)

    def _models(self) -> list[ServedModel]:
        found = []
        for load in inventory.served(self._state.lifecycle.models, "", -1):
            config = messages.ModelConfig.FromString(load.final_config or load.config)
            pids = self._state.lifecycle.workers.running(load.workers)
            found.append(
                ServedModel(
                    load.model,
                    load.version,
                    config,
                    self._book.total(load.load_id),
                    frozenset(self._state.processes[pid].device for pid in pids),
                    self._caches and config.response_cache.enable,
                )
            )
        return found

    def _server(self) -> ServerGauge:
        state = self._state
        roles = [process.role.lower() for process in state.processes.values()]
        kinds = [region.kind for region in state.regions.shown()]
        return ServerGauge(
            processes={role: roles.count(role) for role in _ROLES},
            restarts=state.restarts,
            regions={kind: kinds.count(kind) for kind in ("system", "cuda")},
            revision=state.revision,
        )

    def _processes(self) -> list[ProcessGauge]:
        """Return one for each worker, by name, and one for all frontends of a protocol."""
        sums: dict[str, list[int]] = {}
        for pid, process in self._state.processes.items():
            report: Any = self._book.newest(pid)
            if report is not None:
                entry = sums.setdefault(process.name or process.role.lower(), [0, 0, 0, 0])
                entry[0] += report.open_requests
                entry[1] += report.arena_byte_size
                entry[2] += report.arena_used
                entry[3] += report.device_copies
        return [ProcessGauge(name, *entry) for name, entry in sorted(sums.items())]


def _pinned(reports: Sequence[Any]) -> list[Family]:
    """Return Triton's gauges of pinned memory: here the locked pages of all workers' arenas."""
    families = []
    for (name, text), field in zip(_PINNED, ("locked_byte_size", "locked_used"), strict=True):
        family = Family(name, text, GAUGE)
        family.add({}, sum(getattr(report, field) for report in reports))
        families.append(family)
    return families
