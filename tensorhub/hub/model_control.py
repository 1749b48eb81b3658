"""Who wants which models: the start-up options, the clients, and in poll mode the repository itself.

From each wish to the load plans that the catalogue makes of it, and with those to the hub's state. What is in the cloud
is fetched on a thread, so that the hub's loop goes on meanwhile.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tensorhub.errors import TensorhubError, Unavailable
from tensorhub.hub.actions import Action, Answer, Asker
from tensorhub.hub.catalogue import ModelCatalogue
from tensorhub.hub.outgoing import Outgoing
from tensorhub.hub.plans import LoadFailure
from tensorhub.hub.poller import Poller
from tensorhub.hub.repository import check_model_name, poll_failure
from tensorhub.hub.state import HubState
from tensorhub.ipc.lifeline import parent_lives
from tensorhub.ipc.watch import is_running
from tensorhub.option_groups import ModelRepository
from tensorhub.protocol.model_names import model_key

log = logging.getLogger(__name__)

LOAD_CONTROL_OFF = "explicit model load / unload is not allowed if polling is enabled"

_JOINT = "JOINT"
"""The role of an Asker that stands for one who waits for several loads."""


@dataclass(slots=True, eq=False)
class _Joint:
    """Somebody who waits for several loads: with namespacing a name may mean several models."""

    asker: Asker
    waiting: int
    error: TensorhubError | None = None


class ModelControl:
    """See the module. For the hub's loop.

    Args:
        post: has a call made on the hub's loop; from any thread.
    """

    def __init__(
        self,
        options: ModelRepository,
        catalogue: ModelCatalogue,
        state: HubState,
        outgoing: Outgoing,
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._mode = options.model_control_mode
        self._catalogue = catalogue
        self._state = state
        self._outgoing = outgoing
        self._post = post
        self._joints: dict[Asker, _Joint] = {}
        self._numbers = itertools.count(1)
        outgoing.hand_answers(_JOINT, self._part_answered)
        self._poller = Poller(
            catalogue.fingerprints,
            lambda found: post(lambda: self._follow(found)),
            options.repository_poll_secs,
        )

    def begin(self) -> None:
        """Load what is wanted at the start; call it when it is known what the workers have already."""
        plans, failed, brought = self._catalogue.startup(self._state.lifecycle.models)
        self._outgoing.do(self._state.begin(plans, failed, time.monotonic_ns(), brought))
        if self._mode == "poll":
            self._poller.start()

    def close(self) -> None:
        """Follow the repository no more, and remove what came with requests, unless there are workers that need it."""
        self._poller.close()
        if not (parent_lives() and any(map(is_running, self._state.lifecycle.workers.running()))):
            self._catalogue.close()

    def adopt(self, models: Iterable[Any]) -> None:
        """A worker has come with `tensorhub.wire.ModelVersion`s that another hub had it load."""
        for news in models:
            self._catalogue.adopt(model_key(news.namespace, news.model), news.path)

    def index(self) -> list[Any]:
        """Return the repository index, as in `HubState.index`."""
        return self._state.index(self._catalogue.names(), self._catalogue.duplicates(), time.monotonic_ns())

    def load(self, request: Any, asker: Asker) -> list[Action]:
        """A client wants a model loaded, with a `tensorhub.wire.Control.LoadModel`.

        Raises:
            TensorhubError: it cannot be, or clients may not.
        """
        self._check_mode()
        if not self._catalogue.remote or request.files:
            return self._load(request, asker)
        threading.Thread(target=self._fetch, args=(request, asker), name="fetch", daemon=True).start()
        return []

    def unload(self, request: Any, asker: Asker) -> list[Action]:
        """A client wants a model gone, with a `tensorhub.wire.Control.UnloadModel`.

        Raises:
            Unavailable: clients may not.
        """
        self._check_mode()
        gone: list[Action] = []
        for key in self._state.lifecycle.keys(request.name):
            gone += self._state.unload(key, with_steps=request.unload_dependents)
        return [*gone, Answer(asker)]

    def forget_files(self) -> None:
        """Remove the files of requests that no load needs any more."""
        self._catalogue.keep(self._state.paths())

    def _check_mode(self) -> None:
        if self._mode != "explicit":
            raise Unavailable(LOAD_CONTROL_OFF)

    def _fetch(self, request: Any, asker: Asker) -> None:
        """On a thread of its own."""
        error: Exception | None = None
        try:
            self._catalogue.refresh(check_model_name(request.name))
        except OSError as exc:
            log.error("model '%s' cannot be fetched: %s", request.name, exc)
            error = poll_failure(request.name)
        except Exception as exc:
            error = exc
        self._post(lambda: self._outgoing.attempt(asker, lambda: self._fetched(request, asker, error)))

    def _fetched(self, request: Any, asker: Asker, error: Exception | None) -> list[Action]:
        if error is not None:
            raise error
        return self._load(request, asker)

    def _load(self, request: Any, asker: Asker) -> list[Action]:
        override = request.config if request.has_config else None
        check_model_name(request.name)
        keys = [request.name] if request.files or request.folder else self._catalogue.keys(request.name)
        try:
            plans = [self._catalogue.plan(key, override, dict(request.files), request.folder) for key in keys]
        except TensorhubError as exc:
            if self._catalogue.has_no_version(request.name):
                self._state.lifecycle.cannot_load(LoadFailure(request.name, exc.message, known=True))
            self.forget_files()
            raise
        steps = [self._catalogue.steps_of(plan, all_readable=True) for plan in plans]
        if len(plans) > 1:
            asker = self._joint(asker, len(plans))
        actions: list[Action] = []
        for plan, brought in zip(plans, steps, strict=True):
            actions += self._state.load(plan, asker, time.monotonic_ns(), brought)
        return actions

    def _joint(self, asker: Asker, count: int) -> Asker:
        """Return who asks for several loads in the place of somebody, who hears when all of them have ended."""
        stand_in = Asker(_JOINT, 0, next(self._numbers), 0)
        self._joints[stand_in] = _Joint(asker, count)
        return stand_in

    def _part_answered(self, answer: Answer) -> None:
        joint = self._joints[answer.asker]
        joint.error = joint.error or answer.error
        joint.waiting -= 1
        if not joint.waiting:
            del self._joints[answer.asker]
            self._outgoing.do([Answer(joint.asker, joint.error)])

    def _follow(self, found: Mapping[str, str]) -> None:
        """Follow what has changed in the repository."""
        plans, failed, removed = self._catalogue.follow(found)
        for failure in failed:
            self._state.lifecycle.cannot_load(failure)
        for plan in plans:
            self._outgoing.do(self._state.load(plan, None, time.monotonic_ns()))
        for name in removed:
            self._outgoing.do(self._state.unload(name))
