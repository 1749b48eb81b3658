"""The loads of a worker: what it has, what it is loading and letting go; and what it tells the hub of that.

Loading and unloading happen on loader threads; everything else, also every change of the tables, on the loop's thread.
A load that is given up while it is being loaded is let go as soon as it is there: the hub waits for the word that
nothing of it is left.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from tensorhub.errors import InternalError, TensorhubError
from tensorhub.protocol import messages
from tensorhub.workers.serving import ServingModel

log = logging.getLogger(__name__)

PROGRESS_INTERVAL_S = 1.0
"""How often the hub hears what a long load is at; shorter loads say nothing."""


class Load(Protocol):
    """`loading.load` with what is the same for all loads of a worker."""

    def __call__(self, order: Any, *, progress: Callable[[str], None]) -> ServingModel: ...


class WorkerLoads:
    """See the module.

    Args:
        load: carries out an order; takes it, and whom to tell what it is at. See `loading.load`.
        post: have a call run on the loop's thread, from any thread.
        later: the same after a delay in seconds.
        report: send a `tensorhub.wire.Report` to the hub.
        threads: how many loads may run at once.
        retries: how often a failed load is tried again.

    Attributes:
        models: what is loaded, by load id.
    """

    def __init__(
        self,
        load: Load,
        post: Callable[[Callable[[], None]], None],
        later: Callable[[float, Callable[[], None]], None],
        report: Callable[[Any], None],
        *,
        threads: int,
        retries: int,
    ) -> None:
        self.models: dict[int, ServingModel] = {}
        self._load = load
        self._post = post
        self._later = later
        self._report = report
        self._retries = retries
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="loader")
        self._loading: dict[int, Any] = {}
        self._leaving: set[int] = set()  # load ids of what is to go: as soon as it is there, or has been drained
        self._unloading: dict[int, Future[None]] = {}
        self._steps: dict[int, str] = {}  # what each load is at; written by the loader threads

    def __repr__(self) -> str:
        return f"<WorkerLoads {len(self.models)} loaded, {len(self._loading)} loading>"

    def close(self) -> None:
        """Let everything go, without waiting for requests, nor for what a loader thread is letting go."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        threads = []  # one for each: a model that runs and does not end keeps no other waiting
        for load_id, model in self.models.items():
            unloading = self._unloading.get(load_id)
            if unloading is None or unloading.cancelled():
                threads.append(threading.Thread(target=model.unload, name=f"unload {load_id}", daemon=True))
                threads[-1].start()
        for thread in threads:
            thread.join()

    def news(self) -> list[Any]:
        """Return a `tensorhub.wire.ModelVersion` for all that is loaded or loading; UNLOADING for what is to go."""
        return [
            self._as_it_is(news) for news in (*(model.news for model in self.models.values()), *self._loading.values())
        ]

    def _as_it_is(self, news: Any) -> Any:
        if news.load_id not in self._leaving:
            return news
        leaving = messages.ModelVersion()
        leaving.CopyFrom(news)
        leaving.state = "UNLOADING"
        return leaving

    def load(self, order: Any) -> None:
        """Begin a `tensorhub.wire.Order.LoadModel`; the hub may ask again after a restart."""
        if order.load_id in self.models or order.load_id in self._loading:
            return
        self._loading[order.load_id] = messages.ModelVersion(
            model=order.model,
            version=order.version,
            state="LOADING",
            config=order.config,
            path=order.path,
            load_id=order.load_id,
            overridden=order.overridden,
            fingerprint=order.fingerprint,
            namespace=order.namespace,
        )
        self._threads.submit(self._load_here, order)
        self._later(PROGRESS_INTERVAL_S, lambda: self._post(lambda: self._tell_progress(order.load_id, "")))

    def _load_here(self, order: Any) -> None:
        """On a loader's thread."""

        def progress(step: str) -> None:
            self._steps[order.load_id] = step

        model: ServingModel | None = None
        error: TensorhubError = InternalError("not tried")
        for attempt in range(1 + self._retries):
            if attempt:
                log.warning(
                    "model '%s' version %d could not be loaded: %s; it is tried again (%d of %d)",
                    order.model,
                    order.version,
                    error.message,
                    attempt,
                    self._retries,
                )
            try:
                model = _started(self._load(order, progress=progress))
                break
            except TensorhubError as exc:
                error = exc
            except BaseException as exc:
                log.exception("model '%s' could not be loaded", order.model)
                error = InternalError(f"{type(exc).__name__}: {exc}")
        self._post(lambda: self._loaded(order, model, error))

    def _tell_progress(self, load_id: int, told: str) -> None:
        news = self._loading.get(load_id)
        if news is None:
            return
        step = self._steps.get(load_id, "waiting for a loader thread")
        if step != told:
            news.reason = step
            self._report(messages.Report(model=news))
        self._later(PROGRESS_INTERVAL_S, lambda: self._post(lambda: self._tell_progress(load_id, step)))

    def _loaded(self, order: Any, model: ServingModel | None, error: TensorhubError) -> None:
        news = self._loading.pop(order.load_id)
        self._steps.pop(order.load_id, None)
        given_up = order.load_id in self._leaving
        if model is None:
            self._leaving.discard(order.load_id)
            news.state, news.reason = "UNAVAILABLE", error.message
            log.error("model '%s' version %d could not be loaded: %s", order.model, order.version, error.message)
            self._report(messages.Report(code=1 + error.code, message=error.message, model=news))
            return
        model.news.fingerprint, model.news.namespace = order.fingerprint, order.namespace
        self.models[order.load_id] = model
        if given_up:
            self.unload(order.load_id)
            return
        log.info("loaded model '%s' version %d", order.model, order.version)
        self._report(messages.Report(model=model.news))

    def unload(self, load_id: int) -> None:
        """Let a load go when its last request has been answered."""
        model = self.models.get(load_id)
        if model is not None:
            self._leaving.add(load_id)
            model.drain(lambda: self._post(lambda: self._drained(model)))
        elif load_id in self._loading:
            self._leaving.add(load_id)
        else:
            gone = messages.ModelVersion(load_id=load_id, state="UNAVAILABLE", reason="unloaded")
            self._report(messages.Report(model=gone))

    def _drained(self, model: ServingModel) -> None:
        self._unloading[model.load_id] = self._threads.submit(self._unload_here, model)

    def _unload_here(self, model: ServingModel) -> None:
        """On a loader's thread; no request of the model is open."""
        model.unload()
        self._post(lambda: self._unloaded(model))

    def _unloaded(self, model: ServingModel) -> None:
        self.models.pop(model.load_id, None)
        self._unloading.pop(model.load_id, None)
        self._leaving.discard(model.load_id)
        news = messages.ModelVersion()
        news.CopyFrom(model.news)
        news.state, news.reason = "UNAVAILABLE", "unloaded"
        log.info("unloaded model '%s' version %d", news.model, news.version)
        self._report(messages.Report(model=news))


def _started(model: ServingModel) -> ServingModel:
    """Begin to serve; let the model go if that fails, for want of threads."""
    try:
        model.start()
    except BaseException:
        model.unload()
        raise
    return model
