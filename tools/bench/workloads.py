"""What a row of the bench is made of. Pure: values only. `table` has the rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

MIB = 1 << 20
FP32_BYTES = 4
SEQUENCES_PER_STREAM = 8
"""Sequences that are open at a time on a stream of sequence steps."""
STEPS_PER_SEQUENCE = 16


class Transport(Enum):
    """How tensors travel between client and server."""

    HTTP_BINARY = "http binary"
    HTTP_JSON = "http json"
    GRPC = "grpc"
    GRPC_SHM = "grpc, system shared memory in and out"
    GRPC_CUDA = "grpc, CUDA shared memory in and out"
    GRPC_STREAM = "grpc stream"
    NONE = "none"


class Driver(Enum):
    """What makes the load."""

    WRK = "wrk"
    H2LOAD = "h2load"
    LOOP = "closed loop"
    FOOTPRINT = "processes"


class Beside(Enum):
    """What else goes on meanwhile; see `beside`."""

    NOTHING = "nothing"
    LARGE_REQUESTS = "a client that sends 16 MB"
    IDLE_CONNECTIONS = "500 idle connections"


class Against(Enum):
    """What a row is compared with."""

    PEER = "the peer"
    SYSTEM_REGIONS = "tensorhub with system shared memory"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured quantity: its unit, which way is better, and how many decimals are worth showing."""

    unit: str
    more_is_better: bool
    decimals: int


REQUESTS_PER_S = Metric("requests/s", True, 1)
RESPONSES_PER_S = Metric("responses/s", True, 0)
STEPS_PER_S = Metric("steps/s", True, 0)
MEDIAN_US = Metric("us median", False, 0)
P99_US = Metric("us p99", False, 0)
START_S = Metric("s to ready", False, 2)
IDLE_PERCENT = Metric("% of a core", False, 2)
PSS_MIB = Metric("MiB PSS", False, 1)


@dataclass(frozen=True, slots=True)
class Goal:
    """What a row has to reach; every field that is set must hold.

    Attributes:
        ratio: tensorhub is at least this many times better than the peer; for a throughput, in CPU time too.
        ceiling: tensorhub's own value is at most this, in the metric's unit.
        copy_fraction: tensorhub moves at least this share of the bytes per second of a plain NumPy copy.
        tail: tensorhub's p99 is at most so many times its median.
    """

    ratio: float | None = None
    ceiling: float | None = None
    copy_fraction: float | None = None
    tail: float | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """One row of the table.

    Attributes:
        count: elements of each input tensor (for `countdown`: responses to one request).
        in_flight: connections, each with one request at a time, or with one stream at a time.
        on_one_connection: all requests in flight share a connection, as those of a gRPC client do.
        messages: requests on each stream, sent without waiting for the answers.
        processes: of each kind (HTTP, gRPC, workers) that tensorhub is started with.
    """

    name: str
    title: str
    model: str
    transport: Transport
    driver: Driver
    metric: Metric
    count: int = 16
    in_flight: int = 1
    goal: Goal = field(default_factory=Goal)
    beside: Beside = Beside.NOTHING
    against: Against = Against.PEER
    messages: int = 1
    processes: int = 1
    on_one_connection: bool = False
