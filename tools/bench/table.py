"""The rows of the bench: what is measured, and the goal of each. Pure: values only."""

from __future__ import annotations

from collections.abc import Sequence

from tools.bench.errors import BenchError
from tools.bench.workloads import (
    FP32_BYTES,
    IDLE_PERCENT,
    MEDIAN_US,
    MIB,
    P99_US,
    PSS_MIB,
    REQUESTS_PER_S,
    RESPONSES_PER_S,
    SEQUENCES_PER_STREAM,
    START_S,
    STEPS_PER_S,
    STEPS_PER_SEQUENCE,
    Against,
    Beside,
    Driver,
    Goal,
    Transport,
    Workload,
)


def _small() -> list[Workload]:
    rows = []
    for name, title, transport, driver, goal in (
        ("http_binary", "add_sub, HTTP binary", Transport.HTTP_BINARY, Driver.WRK, 1.3),
        ("http_json", "add_sub, HTTP JSON", Transport.HTTP_JSON, Driver.WRK, 1.3),
        ("grpc", "add_sub, gRPC", Transport.GRPC, Driver.H2LOAD, 2.0),
    ):
        rows.append(
            Workload(
                f"{name}_8",
                f"{title}, 8 in flight",
                "add_sub",
                transport,
                driver,
                REQUESTS_PER_S,
                16,
                8,
                Goal(goal, tail=3.0),
            )
        )
        rows.append(
            Workload(f"{name}_1", f"{title}, 1 in flight", "add_sub", transport, driver, MEDIAN_US, 16, 1, Goal(1.0))
        )
    rows.append(
        Workload(
            "grpc_one_32",
            "add_sub, gRPC, 32 in flight on one connection",
            "add_sub",
            Transport.GRPC,
            Driver.H2LOAD,
            REQUESTS_PER_S,
            in_flight=32,
            on_one_connection=True,
        )
    )
    return rows


def _in_company() -> list[Workload]:
    return [
        Workload(
            f"http_binary_8_{name}",
            f"add_sub, HTTP binary, 8 in flight, beside {beside.value}",
            "add_sub",
            Transport.HTTP_BINARY,
            Driver.WRK,
            metric,
            in_flight=8,
            goal=goal,
            beside=beside,
        )
        for name, metric, goal, beside in (
            ("large", P99_US, Goal(1.0), Beside.LARGE_REQUESTS),
            ("idle", REQUESTS_PER_S, Goal(1.3), Beside.IDLE_CONNECTIONS),
        )
    ]


def _big() -> list[Workload]:
    rows = []
    for label, size, in_flight, goal in (
        ("64k", 1 << 16, 1, Goal()),
        ("1m", MIB, 1, Goal(2.5)),
        ("1m", MIB, 8, Goal(2.5)),
        ("16m", 16 * MIB, 1, Goal(3.5, copy_fraction=0.8)),
        ("16m", 16 * MIB, 8, Goal(3.5, copy_fraction=0.8)),
        ("64m", 64 * MIB, 1, Goal(4.0, copy_fraction=0.8)),
    ):
        several = f"_{in_flight}" if in_flight > 1 else ""
        rows.append(
            Workload(
                f"shm_{label}{several}",
                f"identity FP32 {label.upper()}B, shared memory{f', {in_flight} in flight' if several else ''}",
                "identity_fp32",
                Transport.GRPC_SHM,
                Driver.H2LOAD,
                REQUESTS_PER_S,
                size // FP32_BYTES,
                in_flight,
                goal,
            )
        )
    for label, size, goal in (("1m", MIB, Goal()), ("16m", 16 * MIB, Goal(1.5))):
        count = size // FP32_BYTES
        for protocol, transport in (("http", Transport.HTTP_BINARY), ("grpc", Transport.GRPC)):
            title = f"identity FP32 {label.upper()}B inline, {protocol}"
            name = f"{protocol}_inline_{label}"
            rows.append(Workload(name, title, "identity_fp32", transport, Driver.LOOP, REQUESTS_PER_S, count, 1, goal))
    for protocol, transport in (("http", Transport.HTTP_BINARY), ("grpc", Transport.GRPC)):
        title = f"identity BYTES, 100,000 strings, {protocol}"
        name = f"{protocol}_bytes_100k"
        rows.append(
            Workload(name, title, "identity_bytes", transport, Driver.LOOP, REQUESTS_PER_S, 100_000, 1, Goal(3.0))
        )
    return rows


def _scheduling() -> list[Workload]:
    return [
        Workload(
            "grpc_decoupled",
            "decoupled stream, 1,000 responses a request",
            "countdown",
            Transport.GRPC_STREAM,
            Driver.H2LOAD,
            RESPONSES_PER_S,
            1000,
            1,
            Goal(2.0),
        ),
        Workload(
            "grpc_stream_4",
            "add_sub, 4 gRPC streams, 64 requests on each without waiting",
            "add_sub",
            Transport.GRPC_STREAM,
            Driver.H2LOAD,
            REQUESTS_PER_S,
            16,
            4,
            Goal(1.5),
            messages=64,
        ),
        Workload(
            "http_batching_32",
            "dynamic batching of a NumPy layer, HTTP binary, 32 in flight",
            "dense_batched",
            Transport.HTTP_BINARY,
            Driver.WRK,
            REQUESTS_PER_S,
            256,
            32,
            Goal(1.5),
        ),
        Workload(
            "grpc_batching_32",
            "dynamic batching of a NumPy layer, gRPC, 32 in flight",
            "dense_batched",
            Transport.GRPC,
            Driver.H2LOAD,
            REQUESTS_PER_S,
            256,
            32,
            Goal(1.5),
        ),
        Workload(
            "grpc_batching_one_32",
            "the same on one connection",
            "dense_batched",
            Transport.GRPC,
            Driver.H2LOAD,
            REQUESTS_PER_S,
            256,
            32,
            Goal(1.5),
            on_one_connection=True,
        ),
        Workload(
            "grpc_sequence_streams",
            "steps of 32 sequences of 16, interleaved on 4 gRPC streams",
            "running_sum",
            Transport.GRPC_STREAM,
            Driver.H2LOAD,
            STEPS_PER_S,
            1,
            4,
            Goal(1.5),
            messages=SEQUENCES_PER_STREAM * STEPS_PER_SEQUENCE,
        ),
        Workload(
            "grpc_sequence_8",
            "whole sequences of one step, with controls, gRPC, 8 in flight",
            "running_sum",
            Transport.GRPC,
            Driver.H2LOAD,
            REQUESTS_PER_S,
            1,
            8,
            Goal(1.5),
        ),
    ]


def _pipelines() -> list[Workload]:
    return [
        Workload(
            "http_ensemble_8",
            "two quick steps of an ensemble, HTTP JSON, 8 in flight",
            "add_sub_chain",
            Transport.HTTP_JSON,
            Driver.WRK,
            REQUESTS_PER_S,
            16,
            8,
            Goal(2.0),
        )
    ]


def _footprint() -> list[Workload]:
    return [
        Workload(name, title, "add_sub", Transport.NONE, Driver.FOOTPRINT, metric, goal=Goal(ceiling=ceiling))
        for name, title, metric, ceiling in (
            ("startup", "start to ready, one small model", START_S, 2.0),
            ("memory", "memory of all processes after 1,000 requests, one small model", PSS_MIB, 150.0),
            ("idle_cpu", "idle CPU of all processes, one small model", IDLE_PERCENT, 1.0),
        )
    ]


def _scale() -> list[Workload]:
    """With n processes of each kind, as many as their connections can keep busy; 2 n + 1 cores are wanted."""
    return [
        Workload(
            f"scale_{protocol}_{count}",
            f"add_sub, {title}, frontends and workers: {count} each, {8 * count} in flight",
            "add_sub",
            transport,
            driver,
            REQUESTS_PER_S,
            in_flight=8 * count,
            against=Against.NOTHING,
            processes=count,
        )
        for count in (1, 2, 4)
        for protocol, title, transport, driver in (
            ("http", "HTTP binary", Transport.HTTP_BINARY, Driver.WRK),
            ("grpc", "gRPC", Transport.GRPC, Driver.H2LOAD),
        )
    ]


def _gpu() -> list[Workload]:
    rows = [
        Workload(
            "cuda_small",
            "identity FP32 64 B, CUDA regions; beside it with system regions",
            "identity_gpu",
            Transport.GRPC_CUDA,
            Driver.H2LOAD,
            MEDIAN_US,
            against=Against.SYSTEM_REGIONS,
        )
    ]
    for label, size in (("64m", 64 * MIB), ("1g", 1024 * MIB)):
        rows.append(
            Workload(
                f"cuda_{label}",
                f"identity FP32 {label.upper()}B, CUDA regions",
                "identity_gpu",
                Transport.GRPC_CUDA,
                Driver.H2LOAD,
                REQUESTS_PER_S,
                size // FP32_BYTES,
                goal=Goal(copy_fraction=0.8),
                against=Against.NOTHING,
            )
        )
    return rows


WORKLOADS: tuple[Workload, ...] = (
    *_footprint(),
    *_small(),
    *_in_company(),
    *_big(),
    *_scheduling(),
    *_pipelines(),
    *_scale(),
    *_gpu(),
)


def select(names: Sequence[str]) -> list[Workload]:
    """Return the workloads of these names in the table's order; all of them if there are no names.

    A name that ends in `*` selects every workload that begins with what stands before it.

    Raises:
        BenchError: a name selects nothing.
    """
    if not names:
        return list(WORKLOADS)
    for name in names:
        if not any(_matches(workload.name, name) for workload in WORKLOADS):
            raise BenchError(f"no workload '{name}'; there are: {', '.join(w.name for w in WORKLOADS)}")
    return [workload for workload in WORKLOADS if any(_matches(workload.name, name) for name in names)]


def _matches(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
