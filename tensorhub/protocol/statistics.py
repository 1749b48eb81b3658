"""Statistics of models: adding them up, and Triton's JSON form of them. Pure.

Source: the statistics extension (`extension_statistics.md`), and ModelStatistics in Triton's grpc_service.proto.
"""

from collections.abc import Iterable
from typing import Any

_DURATIONS = (
    "success",
    "fail",
    "queue",
    "compute_input",
    "compute_infer",
    "compute_output",
    "cache_hit",
    "cache_miss",
)
_COMPUTE = ("compute_input", "compute_infer", "compute_output")
_RESPONSE = ("compute_infer", "compute_output", "success", "fail", "empty_response", "cancel")


def add(total: Any, part: Any) -> None:
    """Add one `inference.ModelStatistics` to another, of the same model version."""
    total.last_inference = max(total.last_inference, part.last_inference)
    total.inference_count += part.inference_count
    total.execution_count += part.execution_count
    _add_durations(total.inference_stats, part.inference_stats, _DURATIONS)
    sizes = {entry.batch_size: entry for entry in total.batch_stats}
    for entry in part.batch_stats:
        known = sizes.get(entry.batch_size)
        if known is None:
            total.batch_stats.add().CopyFrom(entry)
        else:
            _add_durations(known, entry, _COMPUTE)
    total.batch_stats.sort(key=lambda entry: entry.batch_size)
    for index, entry in part.response_stats.items():
        _add_durations(total.response_stats[index], entry, _RESPONSE)
    usage = {(entry.type, entry.id): entry for entry in total.memory_usage}
    for entry in part.memory_usage:
        held = usage.get((entry.type, entry.id))
        if held is None:
            total.memory_usage.add().CopyFrom(entry)
        else:
            held.byte_size += entry.byte_size


def _add_durations(total: Any, part: Any, names: tuple[str, ...]) -> None:
    for name in names:
        target, source = getattr(total, name), getattr(part, name)
        target.count += source.count
        target.ns += source.ns


def to_json(statistics: Iterable[Any]) -> dict[str, Any]:
    """Return the JSON object of `GET /v2/models/stats` from `inference.ModelStatistics` messages."""
    return {"model_stats": [_model(item) for item in statistics]}


def _model(item: Any) -> dict[str, Any]:
    return {
        "name": item.name,
        "version": item.version,
        "last_inference": item.last_inference,
        "inference_count": item.inference_count,
        "execution_count": item.execution_count,
        "inference_stats": _durations(item.inference_stats, _DURATIONS),
        "response_stats": {
            index: _durations(entry, _RESPONSE)
            for index, entry in sorted(item.response_stats.items(), key=lambda pair: int(pair[0]))
        },
        "batch_stats": [{"batch_size": entry.batch_size, **_durations(entry, _COMPUTE)} for entry in item.batch_stats],
        "memory_usage": [
            {"type": entry.type, "id": entry.id, "byte_size": entry.byte_size} for entry in item.memory_usage
        ],
    }


def _durations(message: Any, names: tuple[str, ...]) -> dict[str, dict[str, int]]:
    return {name: {"count": (entry := getattr(message, name)).count, "ns": entry.ns} for name in names}
