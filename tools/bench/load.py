"""Measures one server under one load workload: opens what the client needs, checks the answers, then drives.

`target(workload, server)` gives, while its `with` block lasts, a `Target` whose `drive(seconds)` makes one run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tritonclient.utils import InferenceServerException

from tensorhub.client.shared_memory import SharedMemoryError
from tools.bench import closed_loop, h2load, payloads, phases, regions, wrk
from tools.bench.beside import company
from tools.bench.errors import BenchError, ServerError
from tools.bench.grpc_client import INFER, STREAM_INFER, GrpcClient
from tools.bench.http_client import HttpClient, build
from tools.bench.measurements import Load, Sample
from tools.bench.servers import HOST, Server
from tools.bench.workloads import P99_US, Driver, Metric, Transport, Workload

CHECKED_ANSWERS = 3


Drive = Callable[[float], Load]


@dataclass(frozen=True, slots=True)
class Opened:
    """What a workload's opener gives: how to make a run, and for regions how long a plain copy takes."""

    drive: Drive
    copy_seconds: Callable[[], float] | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """One server, ready to be driven with one workload; its answers have been found right."""

    server: Server
    workload: Workload
    drive: Drive
    copy_seconds: Callable[[], float] | None

    def measure(self, seconds: float) -> Sample:
        """Make one run, and before it, where the workload only moves a tensor, a few plain copies of that tensor."""
        copy_s = self.copy_seconds() if self.copy_seconds is not None else None
        alone = self.workload.in_flight == 1 and self.workload.transport is not Transport.GRPC_STREAM
        account = phases.read(self.server, self.workload.model) if alone else None
        faults = self.server.page_faults()
        before_s = self.server.cpu_by_kind_s()
        load = self.drive(seconds)
        if self.server.ended:
            raise ServerError(self.server.name, f"it ended under load; {self.server.last_words()}")
        after_s = self.server.cpu_by_kind_s()
        spent = {}
        if alone:
            later = phases.read(self.server, self.workload.model)
            spent = phases.between(account, later, load.elapsed_s / load.requests * 1e6)
            spent["faults"] = (self.server.page_faults() - faults) / load.requests
            if copy_s is not None:
                spent["copy"] = copy_s * 1e6
        by_kind = {kind: (spent - before_s.get(kind, 0.0)) / load.requests * 1e6 for kind, spent in after_s.items()}
        per_s = load.requests / load.elapsed_s
        fraction = None if copy_s is None else per_s * copy_s
        return Sample(
            _value(self.workload.metric, load),
            sum(by_kind.values()),
            load.p50_us,
            load.p99_us,
            fraction,
            by_kind,
            spent,
        )


@contextmanager
def target(workload: Workload, server: Server) -> Iterator[Target]:
    """Open connections and regions, check the answers, and yield the target; close everything at the end.

    Raises:
        ServerError: an answer is wrong or an error.
    """
    data = payloads.tensors(workload)
    with ExitStack() as stack:
        try:
            alone = _OPENERS[workload.driver, workload.transport](workload, data, server, stack)
            accompany = stack.enter_context(company(workload.beside, server))
        except (BenchError, InferenceServerException, SharedMemoryError, OSError, ValueError) as exc:
            raise ServerError(server.name, str(exc)) from exc

        def drive(seconds: float) -> Load:
            return accompany(lambda: alone.drive(seconds))

        yield Target(server, workload, _named(server.name, drive), alone.copy_seconds)


def _value(metric: Metric, load: Load) -> float:
    if metric.more_is_better:
        return load.requests / load.elapsed_s
    latency_us = load.p99_us if metric is P99_US else load.p50_us
    assert latency_us is not None, "this load generator gives no latencies"
    return latency_us


def _named(name: str, drive: Drive) -> Drive:
    def driven(seconds: float) -> Load:
        try:
            return drive(seconds)
        except (BenchError, OSError) as exc:
            raise ServerError(name, str(exc)) from exc

    return driven


def _open_wrk(workload: Workload, data: payloads.Tensors, server: Server, stack: ExitStack) -> Opened:
    request = payloads.http_request(workload, data)
    _check_http(workload, data, request, stack.enter_context(HttpClient(HOST, server.ports.http)))
    url = f"http://{HOST}:{server.ports.http}{request.path}"
    return Opened(lambda seconds: wrk.run(url, request.headers, request.body, workload.in_flight, seconds))


def _open_http_loop(workload: Workload, data: payloads.Tensors, server: Server, stack: ExitStack) -> Opened:
    request = payloads.http_request(workload, data)
    client = stack.enter_context(HttpClient(HOST, server.ports.http))
    answer_bytes = _check_http(workload, data, request, client)
    whole = build(HOST, request.path, request.headers, request.body)

    def call() -> int:
        _, body = client.post(whole)
        if len(body) != answer_bytes:
            raise BenchError(f"an answer under load has {len(body)} bytes and not {answer_bytes}")
        return 1

    return Opened(lambda seconds: closed_loop.run(call, seconds))


def _check_http(workload: Workload, data: payloads.Tensors, request: payloads.HttpRequest, client: HttpClient) -> int:
    """Check a few answers and return the length of the last one's body."""
    whole = build(HOST, request.path, request.headers, request.body)
    length = 0
    for _ in range(CHECKED_ANSWERS):
        headers, body = client.post(whole)
        length = len(body)
        payloads.check_http(workload, data, headers, bytes(body))
    return length


def _open_h2load(workload: Workload, data: payloads.Tensors, server: Server, stack: ExitStack) -> Opened:
    message = payloads.grpc_request(workload, data)
    client = stack.enter_context(GrpcClient(HOST, server.ports.grpc))
    answer_bytes = _check_grpc(workload, data, message, client)
    authority = f"{HOST}:{server.ports.grpc}"
    connections, streams = (1, workload.in_flight) if workload.on_one_connection else (workload.in_flight, 1)
    return Opened(
        lambda seconds: h2load.run(authority, INFER, message, answer_bytes, connections, seconds, streams=streams)
    )


def _open_grpc_loop(workload: Workload, data: payloads.Tensors, server: Server, stack: ExitStack) -> Opened:
    message = payloads.grpc_request(workload, data)
    client = stack.enter_context(GrpcClient(HOST, server.ports.grpc))
    answer_bytes = _check_grpc(workload, data, message, client)

    def call() -> int:
        answer = client.infer(message)
        if len(answer) != answer_bytes:
            raise BenchError(f"an answer under load has {len(answer)} bytes and not {answer_bytes}")
        return 1

    return Opened(lambda seconds: closed_loop.run(call, seconds))


def _check_grpc(workload: Workload, data: payloads.Tensors, message: bytes, client: GrpcClient) -> int:
    """Check a few answers and return the length of the last one."""
    answer = b""
    for _ in range(CHECKED_ANSWERS):
        answer = client.infer(message)
        payloads.check_grpc(workload, data, answer)
    return len(answer)


def _open_h2load_streams(workload: Workload, data: payloads.Tensors, server: Server, stack: ExitStack) -> Opened:
    sent = [payloads.stream(workload, data, number) for number in range(workload.in_flight)]
    responses = sum(map(len, sent[0].expected.values()))
    answer_bytes = 0
    stream_s = 1.0
    with GrpcClient(HOST, server.ports.grpc) as client:
        for each in sent:
            began = time.perf_counter()
            with client.open_stream() as stream:
                answers = list(stream.exchange(each.messages, responses))
            stream_s = time.perf_counter() - began
            payloads.check_stream(workload, each, answers)
            answer_bytes = sum(len(h2load.frame(answer)) for answer in answers)
    authority = f"{HOST}:{server.ports.grpc}"
    streams = h2load.Streams([each.messages for each in sent], responses, answer_bytes)

    def drive(seconds: float) -> Load:
        nonlocal stream_s
        load = h2load.run_streams(authority, STREAM_INFER, streams, max(1, round(seconds / stream_s)))
        # The next run is as long as it is to be, by what this one took for a stream on each connection.
        stream_s = load.elapsed_s / (load.requests / responses / len(sent))
        return load

    return Opened(drive)


def _open_regions(workload: Workload, data: payloads.Tensors, server: Server, stack: ExitStack) -> Opened:
    """The client only names tensors, so it costs next to nothing; it looks at them before and after each run."""
    kind = regions.cuda if workload.transport is Transport.GRPC_CUDA else regions.system
    opened = stack.enter_context(kind(data, server, workload.name))
    message = payloads.grpc_request(workload, data, opened.names)

    authority = f"{HOST}:{server.ports.grpc}"
    per_s = 0.0

    def checked(work: Callable[[], Load]) -> Load:
        nonlocal per_s
        opened.clear()
        load = work()
        got = opened.outputs()
        for name, want in data.outputs.items():
            payloads.check_array(workload, name, got[name], want)
        per_s = load.requests / load.elapsed_s
        return load

    def drive(seconds: float) -> Load:
        # By count and not by time: a request that is cut off would still be writing to the region.
        requests = max(closed_loop.LEAST_CALLS, round(per_s * seconds))
        return checked(
            lambda: h2load.run(authority, INFER, message, answer_bytes, workload.in_flight, seconds, requests)
        )

    with GrpcClient(HOST, server.ports.grpc) as client:
        checked(lambda: closed_loop.run(lambda: len(client.infer(message)[:1]), 0.0))
        answer_bytes = len(client.infer(message))
    return Opened(drive, opened.copy_seconds if workload.goal.copy_fraction is not None else None)


_OPENERS: dict[tuple[Driver, Transport], Callable[[Workload, payloads.Tensors, Server, ExitStack], Opened]] = {
    (Driver.WRK, Transport.HTTP_BINARY): _open_wrk,
    (Driver.WRK, Transport.HTTP_JSON): _open_wrk,
    (Driver.H2LOAD, Transport.GRPC): _open_h2load,
    (Driver.LOOP, Transport.HTTP_BINARY): _open_http_loop,
    (Driver.LOOP, Transport.GRPC): _open_grpc_loop,
    (Driver.H2LOAD, Transport.GRPC_SHM): _open_regions,
    (Driver.H2LOAD, Transport.GRPC_CUDA): _open_regions,
    (Driver.H2LOAD, Transport.GRPC_STREAM): _open_h2load_streams,
}
