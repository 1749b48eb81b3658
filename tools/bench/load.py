"""Measures one server under one load workload: opens what the client needs, checks the answers, then drives.

`target(workload, server)` gives, while its `with` block lasts, a `Target` whose `drive(seconds)` makes one run.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median

import numpy as np
import tritonclient.grpc
from tritonclient.utils import InferenceServerException, shared_memory

from tools.bench import closed_loop, h2load, payloads, wrk
from tools.bench.beside import company
from tools.bench.errors import BenchError
from tools.bench.grpc_client import INFER, STREAM_INFER, GrpcClient
from tools.bench.http_client import HttpClient, build
from tools.bench.measurements import Load, Sample
from tools.bench.servers import HOST, Server
from tools.bench.workloads import P99_US, Driver, Metric, Transport, Workload

CHECKED_ANSWERS = 3
COPY_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Target:
    """One server, ready to be driven with one workload; its answers have been found right."""

    server: Server
    workload: Workload
    drive: Callable[[float], Load]
    byte_size: int

    def measure(self, seconds: float, copy_s: float | None) -> Sample:
        """Make one run.

        Args:
            copy_s: time of a plain copy of `byte_size` bytes in this alternation, or None.
        """
        before_s = self.server.cpu_s()
        load = self.drive(seconds)
        cpu_us = (self.server.cpu_s() - before_s) / load.requests * 1e6
        per_s = load.requests / load.elapsed_s
        return Sample(
            _value(self.workload.metric, load), cpu_us, load.p99_us, None if copy_s is None else per_s * copy_s
        )


def compares_with_copy(workload: Workload) -> bool:
    """Return whether the workload moves tensors in memory only, so that a plain copy is its lower bound."""
    return workload.transport is Transport.GRPC_SHM


def copy_seconds(byte_size: int) -> float:
    """Return the median time of a plain NumPy copy of so many bytes between two arrays that have their pages."""
    source, destination = np.ones(byte_size, dtype=np.uint8), np.ones(byte_size, dtype=np.uint8)
    times_s: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < COPY_SECONDS or len(times_s) < closed_loop.LEAST_CALLS:
        start = time.perf_counter()
        np.copyto(destination, source)
        times_s.append(time.perf_counter() - start)
    return median(times_s)


@contextmanager
def target(workload: Workload, server: Server) -> Iterator[Target]:
    """Open connections and regions, check the answers, and yield the target; close everything at the end.

    Raises:
        BenchError: an answer is wrong or an error; the message begins with the server's name.
    """
    data = payloads.tensors(workload)
    with ExitStack() as stack:
        try:
            alone = _OPENERS[workload.driver, workload.transport](workload, data, server, stack)
            accompany = stack.enter_context(company(workload.beside, server))
        except (BenchError, InferenceServerException, OSError, ValueError) as exc:
            raise BenchError(f"{server.name}: {exc}") from exc

        def drive(seconds: float) -> Load:
            return accompany(lambda: alone(seconds))

        yield Target(server, workload, _named(server.name, drive), sum(value.nbytes for value in data.inputs.values()))


def _value(metric: Metric, load: Load) -> float:
    if metric.more_is_better:
        return load.requests / load.elapsed_s
    latency_us = load.p99_us if metric is P99_US else load.p50_us
    assert latency_us is not None, "this load generator gives no latencies"
    return latency_us


def _named(name: str, drive: Callable[[float], Load]) -> Callable[[float], Load]:
    def driven(seconds: float) -> Load:
        try:
            return drive(seconds)
        except (BenchError, OSError) as exc:
            raise BenchError(f"{name}: {exc}") from exc

    return driven


Drive = Callable[[float], Load]


def _open_wrk(workload: Workload, data: payloads.Tensors, server: Server, stack: ExitStack) -> Drive:
    request = payloads.http_request(workload, data)
    _check_http(workload, data, request, stack.enter_context(HttpClient(HOST, server.ports.http)))
    url = f"http://{HOST}:{server.ports.http}{request.path}"
    return lambda seconds: wrk.run(url, request.headers, request.body, workload.in_flight, seconds)


def _open_http_loop(workload: Workload, data: payloads.Tensors, server: Server, stack: ExitStack) -> Drive:
    request = payloads.http_request(workload, data)
    client = stack.enter_context(HttpClient(HOST, server.ports.http))
    answer_bytes = _check_http(workload, data, request, client)
    whole = build(HOST, request.path, request.headers, request.body)

    def call() -> int:
        _, body = client.post(whole)
        if len(body) != answer_bytes:
            raise BenchError(f"an answer under load has {len(body)} bytes and not {answer_bytes}")
        return 1

    return lambda seconds: closed_loop.run(call, seconds)


def _check_http(workload: Workload, data: payloads.Tensors, request: payloads.HttpRequest, client: HttpClient) -> int:
    """Check a few answers and return the length of the last one's body."""
    whole = build(HOST, request.path, request.headers, request.body)
    length = 0
    for _ in range(CHECKED_ANSWERS):
        headers, body = client.post(whole)
        length = len(body)
        payloads.check_http(workload, data, headers, bytes(body))
    return length


def _open_h2load(workload: Workload, data: payloads.Tensors, server: Server, stack: ExitStack) -> Drive:
    message = payloads.grpc_request(workload, data)
    client = stack.enter_context(GrpcClient(HOST, server.ports.grpc))
    answer_bytes = _check_grpc(workload, data, message, client)
    authority = f"{HOST}:{server.ports.grpc}"
    return lambda seconds: h2load.run(authority, INFER, message, answer_bytes, workload.in_flight, seconds)


def _open_grpc_loop(workload: Workload, data: payloads.Tensors, server: Server, stack: ExitStack) -> Drive:
    message = payloads.grpc_request(workload, data)
    client = stack.enter_context(GrpcClient(HOST, server.ports.grpc))
    answer_bytes = _check_grpc(workload, data, message, client)

    def call() -> int:
        answer = client.infer(message)
        if len(answer) != answer_bytes:
            raise BenchError(f"an answer under load has {len(answer)} bytes and not {answer_bytes}")
        return 1

    return lambda seconds: closed_loop.run(call, seconds)


def _check_grpc(workload: Workload, data: payloads.Tensors, message: bytes, client: GrpcClient) -> int:
    """Check a few answers and return the length of the last one."""
    answer = b""
    for _ in range(CHECKED_ANSWERS):
        answer = client.infer(message)
        payloads.check_grpc(workload, data, answer)
    return len(answer)


def _open_h2load_streams(workload: Workload, data: payloads.Tensors, server: Server, stack: ExitStack) -> Drive:
    sent = [payloads.stream(workload, data, number) for number in range(workload.in_flight)]
    responses = sum(map(len, sent[0].expected.values()))
    answer_bytes = 0
    with GrpcClient(HOST, server.ports.grpc) as client:
        for each in sent:
            with client.open_stream() as stream:
                answers = list(stream.exchange(each.messages, responses))
            payloads.check_stream(workload, each, answers)
            answer_bytes = sum(len(h2load.frame(answer)) for answer in answers)
    authority = f"{HOST}:{server.ports.grpc}"
    streams = h2load.Streams([each.messages for each in sent], responses, answer_bytes)
    return lambda seconds: h2load.run_streams(authority, STREAM_INFER, streams, seconds)


def _open_shm_loop(workload: Workload, data: payloads.Tensors, server: Server, stack: ExitStack) -> Drive:
    """The regions belong to this client: `stack` unregisters and unlinks them."""
    value, want = data.inputs["INPUT0"], data.outputs["OUTPUT0"]
    stock = tritonclient.grpc.InferenceServerClient(f"{HOST}:{server.ports.grpc}")
    stack.callback(stock.close)
    regions = payloads.Regions(f"bench_{workload.name}_in", f"bench_{workload.name}_out")
    handles = []
    for name in (regions.source, regions.target):
        key = f"/tensorhub_bench_{os.getpid()}_{server.name}_{name}"
        handle = shared_memory.create_shared_memory_region(name, key, value.nbytes, create_only=True)
        stack.callback(shared_memory.destroy_shared_memory_region, handle)
        stock.register_system_shared_memory(name, key, value.nbytes)
        stack.callback(_unregister, stock, name)
        handles.append(handle)
    shared_memory.set_shared_memory_region(handles[0], [value])
    message = payloads.grpc_request(workload, data, regions)
    client = stack.enter_context(GrpcClient(HOST, server.ports.grpc))

    def checked(work: Callable[[], Load]) -> Load:
        # The region is emptied first: an answer of the run before must not pass for one of this run.
        shared_memory.set_shared_memory_region(handles[1], [np.zeros_like(want)])
        load = work()
        # Dropped at once: the region cannot be closed while an array looks into it.
        payloads.check_array(
            workload, "OUTPUT0", shared_memory.get_contents_as_numpy(handles[1], want.dtype, want.shape).copy(), want
        )
        return load

    def call() -> int:
        client.infer(message)
        return 1

    checked(lambda: closed_loop.run(call, 0.0))
    return lambda seconds: checked(lambda: closed_loop.run(call, seconds))


def _unregister(stock: tritonclient.grpc.InferenceServerClient, name: str) -> None:
    try:
        stock.unregister_system_shared_memory(name)
    except (
        InferenceServerException
    ) as exc:  # a server that is gone has no registrations; the region is unlinked all the same
        print(f"cannot unregister {name}: {exc}", file=sys.stderr)


_OPENERS: dict[tuple[Driver, Transport], Callable[[Workload, payloads.Tensors, Server, ExitStack], Drive]] = {
    (Driver.WRK, Transport.HTTP_BINARY): _open_wrk,
    (Driver.WRK, Transport.HTTP_JSON): _open_wrk,
    (Driver.H2LOAD, Transport.GRPC): _open_h2load,
    (Driver.LOOP, Transport.HTTP_BINARY): _open_http_loop,
    (Driver.LOOP, Transport.GRPC): _open_grpc_loop,
    (Driver.LOOP, Transport.GRPC_SHM): _open_shm_loop,
    (Driver.H2LOAD, Transport.GRPC_STREAM): _open_h2load_streams,
}
