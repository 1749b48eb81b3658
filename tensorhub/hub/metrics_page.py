"""The metrics page: what the hub knows and what the processes have told, as families for Prometheus. Pure.

The `nv_` families have Triton's names, types, labels and help texts, and come in its order. What Triton has no name for
is called `tensorhub_`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tensorhub.protocol import sketch
from tensorhub.protocol.exposition import COUNTER, GAUGE, HISTOGRAM, SUMMARY, Family, label_name
from tensorhub.protocol.metrics_config import FIRST_RESPONSE, MetricsConfig

FAILURE_REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")

CLOSED_REASONS = ("full", "preferred", "delay", "shape", "queue_empty")
"""Why a batch is closed, as the schedulers call it."""

_GATHERING = frozenset({"dynamic_batching", "sequence_batching"})

_CACHED = "(includes cached requests)"
_NOT_CACHED = "(does not include cached requests)"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One load of one model version.

    Attributes:
        config: its complete `inference.ModelConfig`.
        total: `tensorhub.wire.LoadStatistics` of all workers together.
        devices: of the workers that serve it, "CPU" or a GPU's UUID.
        cached: the response cache is on for it.
    """

    name: str
    version: int
    config: Any
    total: Any
    devices: frozenset[str]
    cached: bool

    def labels(self) -> dict[str, str]:
        """Triton's labels: the model, its GPU if it is on exactly one, and the config's tags after underscores."""
        tags = {label_name(f"_{key}"): value for key, value in self.config.metric_tags.items()}
        labels = {"model": self.name, "version": str(self.version), **tags}
        if len(self.devices) == 1 and "CPU" not in self.devices:
            labels["gpu_uuid"] = next(iter(self.devices))
        return labels


_Value = Callable[[Any], float]


@dataclass(frozen=True, slots=True)
class _PerModel:
    """A counter or a gauge with one value for each model."""

    name: str
    help: str
    kind: str
    value: _Value
    latency: bool = False
    cache: bool = False


def _us(name: str) -> _Value:
    return lambda total: getattr(total.statistics.inference_stats, name).ns // 1_000


_PER_MODEL = (
    _PerModel(
        "nv_inference_count",
        f"Number of inferences performed {_NOT_CACHED}",
        COUNTER,
        lambda total: total.statistics.inference_count,
    ),
    _PerModel(
        "nv_inference_exec_count",
        f"Number of model executions performed {_NOT_CACHED}",
        COUNTER,
        lambda total: total.statistics.execution_count,
    ),
    _PerModel(
        "nv_inference_request_duration_us",
        f"Cumulative inference request duration in microseconds {_CACHED}",
        COUNTER,
        _us("success"),
        latency=True,
    ),
    _PerModel(
        "nv_inference_queue_duration_us",
        f"Cumulative inference queuing duration in microseconds {_CACHED}",
        COUNTER,
        _us("queue"),
        latency=True,
    ),
    _PerModel(
        "nv_inference_compute_input_duration_us",
        f"Cumulative compute input duration in microseconds {_NOT_CACHED}",
        COUNTER,
        _us("compute_input"),
        latency=True,
    ),
    _PerModel(
        "nv_inference_compute_infer_duration_us",
        f"Cumulative compute inference duration in microseconds {_NOT_CACHED}",
        COUNTER,
        _us("compute_infer"),
        latency=True,
    ),
    _PerModel(
        "nv_inference_compute_output_duration_us",
        f"Cumulative inference compute output duration in microseconds {_NOT_CACHED}",
        COUNTER,
        _us("compute_output"),
        latency=True,
    ),
    _PerModel(
        "nv_cache_num_hits_per_model",
        "Number of cache hits per model",
        COUNTER,
        lambda total: total.statistics.inference_stats.cache_hit.count,
        cache=True,
    ),
    _PerModel(
        "nv_cache_hit_duration_per_model",
        "Total cache hit duration per model, in microseconds",
        COUNTER,
        _us("cache_hit"),
        cache=True,
    ),
    _PerModel(
        "nv_cache_num_misses_per_model",
        "Number of cache misses per model",
        COUNTER,
        lambda total: total.statistics.inference_stats.cache_miss.count,
        cache=True,
    ),
    _PerModel(
        "nv_cache_miss_duration_per_model",
        "Total cache miss (insert+lookup) duration per model, in microseconds",
        COUNTER,
        _us("cache_miss"),
        cache=True,
    ),
    _PerModel(
        "nv_inference_pending_request_count",
        "Instantaneous number of pending requests awaiting execution per-model.",
        GAUGE,
        lambda total: total.pending,
    ),
    _PerModel(
        "nv_model_load_duration_secs",
        "Model load time in seconds",
        GAUGE,
        lambda total: total.load_ns / 1e9,
    ),
)

_SUMMARIES = (
    ("success", "nv_inference_request_summary_us", f"Summary of inference request duration in microseconds {_CACHED}"),
    ("queue", "nv_inference_queue_summary_us", f"Summary of inference queuing duration in microseconds {_CACHED}"),
    (
        "compute_input",
        "nv_inference_compute_input_summary_us",
        f"Cumulative compute input duration in microseconds {_NOT_CACHED}",
    ),
    (
        "compute_infer",
        "nv_inference_compute_infer_summary_us",
        f"Cumulative compute inference duration in microseconds {_NOT_CACHED}",
    ),
    (
        "compute_output",
        "nv_inference_compute_output_summary_us",
        f"Cumulative inference compute output duration in microseconds {_NOT_CACHED}",
    ),
    (
        "cache_hit",
        "nv_cache_hit_summary_per_model",
        "Summary of cache hit counts/durations per model, in microseconds.",
    ),
    (
        "cache_miss",
        "nv_cache_miss_summary_per_model",
        "Summary of cache miss counts/durations per model, in microseconds.",
    ),
)


def model_families(models: Sequence[ServedModel], config: MetricsConfig) -> list[Family]:
    """Return the counters and gauges of models."""
    success = Family(
        "nv_inference_request_success", "Number of successful inference requests, all batch sizes", COUNTER
    )
    failure = Family("nv_inference_request_failure", "Number of failed inference requests, all batch sizes", COUNTER)
    families = [success, failure]
    for model in models:
        labels = model.labels()
        success.add(labels, model.total.statistics.inference_stats.success.count)
        for reason in FAILURE_REASONS:
            failure.add({**labels, "reason": reason}, model.total.failures[reason])
    for row in _PER_MODEL:
        if row.latency and not config.counters:
            continue
        family = Family(row.name, row.help, row.kind)
        for model in models:
            if model.cached or not row.cache:
                family.add(model.labels(), row.value(model.total))
        families.append(family)
    return families


def batch_families(models: Sequence[ServedModel]) -> list[Family]:
    """Return why batches were closed, of the models that gather requests."""
    family = Family(
        "tensorhub_batches_closed_total",
        "Batches by the reason for which they were closed and not grown further",
        COUNTER,
    )
    for model in models:
        if model.config.WhichOneof("scheduling_choice") in _GATHERING:
            labels = {"model": model.name, "version": str(model.version)}
            for reason in CLOSED_REASONS:
                family.add({**labels, "reason": reason}, model.total.batches_closed[reason])
    return [family]


def latency_families(models: Sequence[ServedModel], config: MetricsConfig) -> list[Family]:
    """Return the histograms and summaries of models, as far as they are asked for."""
    families = []
    if config.histograms:
        family = Family(FIRST_RESPONSE, "Duration from request to first response in milliseconds", HISTOGRAM)
        for model in models:
            first = model.total.first_response
            if first.counts:
                family.add_histogram(model.labels(), first.bounds, first.counts, first.sum)
        families.append(family)
    for key, name, text in _SUMMARIES if config.summaries else ():
        family = Family(name, text, SUMMARY)
        for model in models:
            # A cached model has no request summary, in Triton: it would mix two very different kinds of requests.
            if model.cached if key == "success" else key.startswith("cache") and not model.cached:
                continue
            item = model.total.summaries[key]
            values = [(quantile, sketch.quantile(item.recent, quantile)) for quantile in config.quantiles]
            family.add_summary(model.labels(), values, item.count, item.sum)
        families.append(family)
    return families


def cache_families(models: Sequence[ServedModel], uses: Sequence[Any], *, local: bool) -> list[Family]:
    """Return the gauges of the response cache, which Triton has by these names although they only ever grow.

    Args:
        uses: the `tensorhub.wire.CacheUse` of each worker.
        local: the workers have it; else it is elsewhere, and what is in it is not known here.
    """
    stats = [model.total.statistics.inference_stats for model in models if model.cached]
    hits = sum(item.cache_hit.count for item in stats)
    misses = sum(item.cache_miss.count for item in stats)
    size = sum(use.byte_size for use in uses)
    rows: tuple[tuple[str, str, float], ...] = (
        ("nv_cache_util", "Cache utilization [0.0 - 1.0]", sum(use.used for use in uses) / size if size else 0),
        ("nv_cache_num_entries", "Number of responses stored in response cache", sum(use.entries for use in uses)),
        ("nv_cache_num_hits", "Number of cache hits in response cache", hits),
        ("nv_cache_num_misses", "Number of cache misses in response cache", misses),
        ("nv_cache_num_lookups", "Number of cache lookups in response cache", hits + misses),
        (
            "nv_cache_num_evictions",
            "Number of cache evictions in response cache",
            sum(use.evictions for use in uses),
        ),
        (
            "nv_cache_lookup_duration",
            "Total cache lookup duration (hit and miss), in microseconds",
            sum(item.cache_hit.ns for item in stats) // 1_000,
        ),
        (
            "nv_cache_insertion_duration",
            "Total cache insertion duration, in microseconds",
            sum(item.cache_miss.ns for item in stats) // 1_000,
        ),
    )
    families = []
    for name, text, value in rows:
        if local or name not in _OF_LOCAL_CACHES:
            family = Family(name, text, GAUGE)
            family.add({}, value)
            families.append(family)
    if not local:
        family = Family(
            "tensorhub_response_cache_failures",
            "Look-ups and entries that the response cache did not deal with",
            COUNTER,
        )
        family.add({}, sum(use.failures for use in uses))
        families.append(family)
    return families


_OF_LOCAL_CACHES = frozenset({"nv_cache_util", "nv_cache_num_entries", "nv_cache_num_evictions"})


@dataclass(frozen=True, slots=True)
class ProcessGauge:
    """What a process, or all processes of one kind together, tell of themselves.

    Attributes:
        name: "cpu0" of a worker, else what they are: "http", "grpc".
    """

    name: str
    open_requests: int
    arena_byte_size: int
    arena_used: int
    device_copies: int = 0


@dataclass(frozen=True, slots=True)
class ServerGauge:
    """What the hub knows of the whole server.

    Attributes:
        processes, restarts: by role, "worker", "http" and "grpc".
        regions: registered regions by kind, "system" and "cuda".
    """

    processes: dict[str, int]
    restarts: dict[str, int]
    regions: dict[str, int]
    revision: int


def server_families(server: ServerGauge, processes: Iterable[ProcessGauge]) -> list[Family]:
    """Return tensorhub's own families."""
    up = Family("tensorhub_processes", "Processes that are up, by what they do", GAUGE)
    restarts = Family("tensorhub_process_restarts", "Processes that came in the place of one that had died", COUNTER)
    regions = Family("tensorhub_shared_memory_regions", "Shared memory regions that clients have registered", GAUGE)
    revision = Family("tensorhub_snapshot_revision", "Number of the newest snapshot of the hub's state", GAUGE)
    open_requests = Family("tensorhub_open_requests", "Requests that are not answered yet, by process", GAUGE)
    arena_total = Family("tensorhub_arena_total_bytes", "Budget for tensors on their way, by process", GAUGE)
    arena_used = Family("tensorhub_arena_used_bytes", "Bytes of tensors on their way, by process", GAUGE)
    copies = Family("tensorhub_device_copies", "Tensors copied from or to a GPU for models that are not on it", COUNTER)
    for role, count in server.processes.items():
        up.add({"role": role}, count)
    for role, count in server.restarts.items():
        restarts.add({"role": role}, count)
    for kind, count in server.regions.items():
        regions.add({"kind": kind}, count)
    revision.add({}, server.revision)
    for item in processes:
        labels = {"process": item.name}
        open_requests.add(labels, item.open_requests)
        arena_total.add(labels, item.arena_byte_size)
        arena_used.add(labels, item.arena_used)
        copies.add(labels, item.device_copies)
    return [up, restarts, regions, revision, open_requests, arena_total, arena_used, copies]
