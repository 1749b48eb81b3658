"""`tensorhub-worker`: one worker process. It owns models, their queues and the mappings of regions."""

import gc
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tensorhub import settings
from tensorhub.backends import calling, device_access
from tensorhub.backends.python import output
from tensorhub.cache_options import cache_options
from tensorhub.errors import TensorhubError
from tensorhub.frontend.gateway import Gateway
from tensorhub.frontend.routing import far_workers
from tensorhub.ipc import wire
from tensorhub.ipc.arena_memory import Arena
from tensorhub.ipc.cuda_regions import HandleTable
from tensorhub.ipc.cuda_shm import open_port
from tensorhub.ipc.far_memory import CopyServer, FarMemory
from tensorhub.ipc.gpus import VISIBLE_VARIABLE, find_gpus
from tensorhub.ipc.growth import GrowthLimit
from tensorhub.ipc.handed_out import HandedOut
from tensorhub.ipc.handles import fetch_handle
from tensorhub.ipc.holdings import Holdings
from tensorhub.ipc.lifeline import follow_parent
from tensorhub.ipc.node import Node
from tensorhub.ipc.peer_arenas import PeerArenas
from tensorhub.ipc.regions import RegionFiles, RegionTable
from tensorhub.ipc.rundir import RunDir, RunDirError
from tensorhub.ipc.stop_signals import came, stop_signals
from tensorhub.logs import set_up
from tensorhub.option_kinds import Scoped
from tensorhub.protocol.metrics_config import MetricsConfig
from tensorhub.redis_link import RedisFault
from tensorhub.workers.device_health import DeviceHealth
from tensorhub.workers.loop import WorkerLoop
from tensorhub.workers.memory import WorkerMemory
from tensorhub.workers.own_options import split
from tensorhub.workers.turns import Turns

if TYPE_CHECKING:
    from tensorhub.workers.cache_stores import CacheStore

_PROG = "tensorhub-worker"
_GPU_NAME = re.compile(r"gpu(\d+)(?:-\d+)?")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker until SIGTERM. Returns the exit status: 1 if it cannot start."""
    try:
        own, argued = split(sys.argv[1:] if argv is None else argv)
        chosen = settings.load(argued)
        metrics = MetricsConfig.read(chosen.metrics.metrics_config)
    except settings.HelpRequested:
        sys.stdout.write(settings.help_text(f"{_PROG} [--name cpu0]"))
        return 0
    except (settings.SettingsError, TensorhubError) as exc:
        sys.stderr.write(f"{_PROG}: {exc}\n")
        return 1
    gpu = own.gpu or _gpu_of(own.name)
    if gpu:
        os.environ[VISIBLE_VARIABLE] = gpu
    follow_parent()
    set_up(chosen.as_strings(), own.name)
    output.capture()
    run_dir = RunDir(Path(chosen.server.run_dir))
    try:
        run_dir.open()
    except RunDirError as exc:
        sys.stderr.write(f"{_PROG}: {exc}\n")
        return 1
    node = Node(run_dir, wire.Role.WORKER, name=own.name, device=gpu or "CPU", environment=own.environment)
    try:
        cache = _maybe_cache(chosen.cache.cache_config, node)
    except (RedisFault, ValueError) as exc:
        sys.stderr.write(f"{_PROG}: {exc}\n")
        node.close()
        return 1
    arena = Arena(chosen.shared_memory.arena_byte_size)
    peers = PeerArenas(run_dir)
    gateway = Gateway(node, arena)
    handles = HandleTable(open_port) if gpu or find_gpus() else None
    health = DeviceHealth(handles if gpu else None, node.watcher.later)

    def fetch(hub_pid: int, number: int) -> int:
        return fetch_handle(run_dir.handles(hub_pid), number)

    def others(owner: str, region: str) -> list[int]:
        return far_workers(gateway.catalog.devices, gateway.catalog.cuda_regions(owner), region, gpu)

    limits = chosen.shared_memory
    holdings = Holdings(run_dir, node.pid) if limits.shm_socket else None
    growth = GrowthLimit(holdings, limits.shm_max_byte_size) if holdings and limits.shm_max_byte_size else None
    far = FarMemory(run_dir, arena, others) if gpu else None
    regions = RegionTable(
        chosen.shared_memory.shm_allowed_uids,
        handles,
        gpu,
        eager=not chosen.processes.gpu_workers,
        files=RegionFiles(gateway.handles, fetch),
        far=far,
        growth=growth,
    )
    handed_out = None
    if holdings is not None:
        handed_out = HandedOut(
            own.name,
            gateway.handles,
            limits,
            holdings,
            regions.totals,
            node.watcher.later,
            grown=regions.grown_byte_size,
        )
    memory = WorkerMemory(
        arena,
        peers,
        regions,
        handles if gpu else None,
        chosen.memory.pinned_memory_pool_byte_size,
        handed_out,
    )
    copies = CopyServer(run_dir.copies(node.pid), handles, health.after) if gpu and handles is not None else None
    device_access.install(handles.try_port if handles is not None else lambda: None)
    limiter = chosen.rate_limiter
    loop = WorkerLoop(
        node,
        gateway,
        memory,
        peers,
        regions,
        arena=arena,
        metrics=metrics,
        loader_threads=chosen.repository.model_load_thread_count,
        load_retries=chosen.repository.model_load_retry_count,
        backends=chosen.backend.backend_config,
        turns=Turns(limiter.rate_limit_resource) if limiter.rate_limit == "execution_count" else None,
        cache=cache,
        refusal=own.refusal,
        health=health,
        handed_out=handed_out,
    )
    if chosen.shared_memory.shm_reap:
        loop.reap()
    calling.install(loop.calls)
    timeout_s = float(chosen.server.exit_timeout_secs)
    gc.collect()
    gc.freeze()
    if copies is not None:
        copies.start()
    with stop_signals() as signals:
        node.watcher.on_readable(signals, lambda: loop.stop(timeout_s) if came(signals) else None)
        try:
            loop.run()
        finally:
            if copies is not None:
                copies.close()
            if far is not None:
                far.close()
            if cache is not None:
                cache.close()
            if holdings is not None:
                holdings.close()
            gateway.close_down()
    return 0


def _maybe_cache(given: Sequence[Scoped], node: Node) -> "CacheStore | None":
    """Return the cache that --cache-config asks for.

    Raises:
        RedisFault, ValueError: it cannot be had.
    """
    options = cache_options(given, os.environ)
    if options is None:
        return None
    from tensorhub.workers.cache_stores import open_store  # not at the top: few servers have a cache

    return open_store(options, node.post)


def _gpu_of(name: str) -> str:
    """Return the UUID of the GPU that a worker's name stands for, "" for the processor."""
    match = _GPU_NAME.fullmatch(name)
    if match is None:
        return ""
    gpus = find_gpus()
    ordinal = int(match[1])
    if ordinal >= len(gpus):
        raise SystemExit(f"{_PROG}: --name {name}: this host lets the server use {len(gpus)} GPUs")
    return gpus[ordinal].uuid


if __name__ == "__main__":
    sys.exit(main())
