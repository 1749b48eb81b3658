"""Loading a model version in a worker: complete its config, load it, make its instances."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorhub.backends.port import ModelSource
from tensorhub.backends.registry import find_backend
from tensorhub.errors import InternalError
from tensorhub.memory import Memory
from tensorhub.option_kinds import Scoped
from tensorhub.protocol import messages, model_config
from tensorhub.protocol.metrics_config import MetricsConfig, first_response_bounds
from tensorhub.protocol.model_spec import ModelSpec
from tensorhub.workers.alarms import Alarms
from tensorhub.workers.calls import ModelCalls
from tensorhub.workers.decode import RequestDecoder
from tensorhub.workers.device_use import Taken
from tensorhub.workers.encode import ResponseEncoder
from tensorhub.workers.ensemble import EnsembleGraph
from tensorhub.workers.instances import share_of, wanted_instances
from tensorhub.workers.labels import StepLabels, read_labels
from tensorhub.workers.latencies import Latencies
from tensorhub.workers.model import RunningModel
from tensorhub.workers.ordering import ResponseOrder
from tensorhub.workers.running_ensemble import RunningEnsemble
from tensorhub.workers.schedulers.choice import choose_scheduler
from tensorhub.workers.schedulers.states import INITIAL_STATE_FOLDER, initial_files
from tensorhub.workers.serving import ServingModel
from tensorhub.workers.state_outputs import StateOutputs
from tensorhub.workers.statistics import StatisticsRecorder
from tensorhub.workers.turns import ModelTurns, Turns
from tensorhub.workers.warmup import read_file, read_samples, warm_up

if TYPE_CHECKING:
    from tensorhub.workers.cache_stores import CacheStore
    from tensorhub.workers.caching import Entries

log = logging.getLogger(__name__)


_CPU = -1


def load(
    order: Any,
    memory: Memory,
    alarms: Alarms,
    calls: ModelCalls,
    metrics: MetricsConfig,
    backends: Sequence[Scoped] = (),
    turns: Turns | None = None,
    cache: "CacheStore | None" = None,
    progress: Callable[[str], None] = lambda step: None,
) -> ServingModel:
    """Carry out an order to load; the model is ready to `start`.

    Args:
        order: a `tensorhub.wire.Order.LoadModel`.
        alarms, calls: of this worker.
        metrics: which latencies are kept.
        backends: the settings of `--backend-config`.
        turns: the rate limiter of this worker, if it is on.
        cache: the response cache that this worker uses, if there is one.
        progress: told what the load is at before each step that may take long.

    Raises:
        TensorhubError: it cannot be loaded; nothing of it is left. The message is what the repository index shows.
    """
    with memory.measured_load() as taken:
        return _load(order, memory, alarms, calls, metrics, backends, turns, cache, progress, taken)


def _load(
    order: Any,
    memory: Memory,
    alarms: Alarms,
    calls: ModelCalls,
    metrics: MetricsConfig,
    backends: Sequence[Scoped],
    turns: Turns | None,
    cache: "CacheStore | None",
    progress: Callable[[str], None],
    taken: Taken,
) -> ServingModel:
    began_ns = time.monotonic_ns()
    config = messages.ModelConfig.FromString(order.config)
    if model_config.is_ensemble(config):
        return _ensemble(order, config, memory, calls, _recorder(config, metrics, began_ns, time.monotonic_ns()), cache)
    source = ModelSource(order.model, order.version, order.path, config, _of_backend(backends, config.backend))
    backend = find_backend(config.backend)
    gpus = [str(ordinal) for ordinal in range(order.gpu_count)]
    if order.auto_complete:
        progress("completing the configuration")
        config = model_config.complete(backend.auto_complete(source), name=order.model, gpus=gpus)
        source = replace(source, config=config)
    model_config.validate_loaded(config, gpus)
    with ExitStack() as undo:
        progress("loading the model")
        loaded = backend.load(source)
        undo.callback(loaded.unload)
        folder = Path(order.path)
        spec = replace(ModelSpec.from_config(config, order.model, order.version), labels=read_labels(config, folder))
        if order.gpu == _CPU:
            # A model on the processor need not be able to reach a GPU, whatever its config says.
            spec = replace(spec, takes_device_inputs=False)
        elif config.optimization.input_pinned_memory.enable:
            progress("locking memory for the GPU")
            memory.prepare_staging()
            spec = replace(spec, stages_inputs=True)
        cache = _maybe_cache(order, config, cache)
        entries: Entries | None = None
        if cache is not None:
            # SAFETY: what is looked up and kept is read from copies that no client can change meanwhile.
            spec = replace(spec, copies_region_inputs=True, takes_device_inputs=False)
            progress("reading the model's files for the response cache")
            entries = cache.entries_of_model(order.load_id, spec, order.path, config)
        samples = read_samples(config, spec, folder)
        instances = []
        share = share_of(wanted_instances(config, order.gpu), order.share_index, order.share_count)
        for number, wanted in enumerate(share, 1):
            progress(f"making instance {number} of {len(share)}")
            name = wanted.spec.name
            instance = loaded.new_instance(wanted.spec)
            undo.callback(instance.finalize)
            warm_up(instance, name, samples, spec)
            instances.append((name, instance))
        active = [wanted.needs for wanted in share if not wanted.passive]
        state_files = {
            name: read_file(folder, INITIAL_STATE_FOLDER, name, order.model) for name in initial_files(config)
        }
        statistics = _recorder(config, metrics, began_ns, time.monotonic_ns())
        if order.gpu >= 0:
            statistics.gpu, statistics.gpu_byte_size = order.gpu, taken()
        running = RunningModel(
            _news(order, config),
            loaded,
            instances,
            RequestDecoder(spec, memory),
            ResponseEncoder(spec, memory),
            choose_scheduler(config, len(active), state_files, order.share_count),
            decoupled=config.model_transaction_policy.decoupled,
            spec=spec,
            alarms=alarms,
            statistics=statistics,
            order=ResponseOrder() if model_config.keeps_order(config) else None,
            states=StateOutputs(spec.state_outputs, spec.outputs) if spec.state_outputs else None,
            turns=ModelTurns(turns, order.load_id, active) if turns is not None else None,
        )
        undo.pop_all()
    if getattr(loaded, "calls_models", False):
        running.keep_off_the_loop()
    return running if entries is None else _cached(running, entries)


def _ensemble(
    order: Any,
    config: Any,
    memory: Memory,
    calls: ModelCalls,
    statistics: StatisticsRecorder,
    cache: "CacheStore | None",
) -> ServingModel:
    """Load an ensemble, which the hub has validated against the models of its steps."""
    graph = EnsembleGraph.from_config(config)
    labels = StepLabels(graph, read_labels(config, Path(order.path)), calls.find)
    spec = replace(ModelSpec.from_config(config, order.model, order.version), labels=labels)
    cache = _maybe_cache(order, config, cache)
    if cache is not None:
        spec = replace(spec, copies_region_inputs=True)
    elif order.gpu != _CPU:
        spec = replace(spec, takes_device_inputs=True)  # the steps that want the host's memory are given copies
    decoder, encoder = RequestDecoder(spec, memory), ResponseEncoder(spec, memory)
    limit = config.ensemble_scheduling.max_inflight_requests
    running = RunningEnsemble(_news(order, config), graph, limit, spec, decoder, encoder, calls, statistics)
    if cache is None:
        return running
    # The parameters of its responses name the sequence of the request: they are no part of the answer.
    return _cached(running, cache.entries_of_load(order.load_id, spec), keeps_parameters=False)


def _cached(
    running: RunningModel | RunningEnsemble, entries: "Entries", *, keeps_parameters: bool = True
) -> ServingModel:
    from tensorhub.workers.caching import CachedModel  # not at the top: few servers have a cache

    return CachedModel(running, entries, keeps_parameters=keeps_parameters)


def _maybe_cache(order: Any, config: Any, cache: "CacheStore | None") -> "CacheStore | None":
    """Return the cache, if the model is to use it."""
    if not config.response_cache.enable:
        return None
    if cache is None:
        log.warning(
            "model '%s' has response_cache enabled, but the server has no response cache: it is ignored "
            "(--cache-config=local,size=<bytes> makes one)",
            order.model,
        )
    return cache


def _news(order: Any, config: Any) -> Any:
    return messages.ModelVersion(
        model=order.model,
        version=order.version,
        state="READY",
        config=config.SerializeToString(),
        path=order.path,
        load_id=order.load_id,
        overridden=order.overridden,
    )


def _recorder(config: Any, metrics: MetricsConfig, began_ns: int, now_ns: int) -> StatisticsRecorder:
    bounds = first_response_bounds(config) if metrics.histograms else ()
    kept = metrics.summaries or metrics.histograms
    latencies = Latencies(summaries=metrics.summaries, bounds_ms=bounds, now_ns=now_ns) if kept else None
    return StatisticsRecorder(latencies, now_ns - began_ns)


def refuse(order: Any, progress: Callable[[str], None], reason: str) -> RunningModel:
    """Answer an order to load where nothing can be loaded.

    Raises:
        InternalError: always, with the reason.
    """
    raise InternalError(reason)


def _of_backend(settings: Sequence[Scoped], backend: str) -> dict[str, str]:
    """Return the settings of one backend; its own go before those of all."""
    ordered = sorted(settings, key=lambda item: item.scope != "")
    return {item.name: item.value for item in ordered if item.scope in ("", backend)}
