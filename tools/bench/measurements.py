"""What a run yields, and what is kept of it. Pure: values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tools.bench.workloads import Workload


@dataclass(frozen=True, slots=True)
class Load:
    """What a load generator saw in one run.

    Attributes:
        requests: completed with a right status (for a stream: responses).
        elapsed_s: from the first request to the last answer.
        p50_us, p99_us: latency of one request; None where the generator was not asked for it.
    """

    requests: int
    elapsed_s: float
    p50_us: float | None
    p99_us: float | None


@dataclass(frozen=True, slots=True)
class Sample:
    """One server in one alternation.

    Attributes:
        value: in the unit of the workload's metric.
        cpu_us: CPU time of all processes of the server per request (for a stream: per response); None without requests.
        p50_us, p99_us: latency; None where not measured.
        copy_fraction: bytes per second of one direction, as a share of a plain NumPy copy; None where meaningless.
        by_kind: CPU time per request in microseconds of each kind of its processes; of `memory`, MiB.
        phases: at one request at a time, where its time goes, in microseconds; see `phases`, whose names it has, and
            `copy` (a plain one in the client) and `faults` (pages, not a time).
    """

    value: float
    cpu_us: float | None = None
    p50_us: float | None = None
    p99_us: float | None = None
    copy_fraction: float | None = None
    by_kind: Mapping[str, float] = field(default_factory=dict)
    phases: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """All alternations of one workload; the i-th sample of each server make a pair.

    Attributes:
        peer: samples of what the row is compared with; none if that is nothing.
    """

    workload: Workload
    tensorhub: Sequence[Sample]
    peer: Sequence[Sample]
