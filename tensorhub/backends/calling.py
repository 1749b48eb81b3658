"""How a model calls other models: the port to the worker that it runs in.

A worker has one ModelCaller, which its main program installs before it loads a model. It lives as long as the process.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from tensorhub.errors import TensorhubError, Unavailable
from tensorhub.requests import InferResponse, Parameter, Tally, Tensor, Trace

_NO_PARAMETERS: Mapping[str, Parameter] = {}


class ModelCall(NamedTuple):
    """A request of one model to another.

    Attributes:
        version: a number, or -1 for the newest.
        inputs: their memory is read until the call has been answered finally, and not written to.
        requested: outputs; empty for all.
        tally: where to count how long the called model took.
        trace: of the request that makes the call, if the call is to be a part of it.
        writable: names of the inputs whose memory nobody else uses, so that the called model may write to it.
    """

    model: str
    version: int
    inputs: Sequence[Tensor]
    requested: Sequence[str] = ()
    request_id: str = ""
    correlation_id: int | str = 0
    flags: int = 0
    priority: int = 0
    timeout_us: int = 0
    parameters: Mapping[str, Parameter] = _NO_PARAMETERS
    writable: frozenset[str] = frozenset()
    tally: Tally | None = None
    trace: Trace | None = None


OnResponse = Callable[[InferResponse | None, bool], None]
"""(response, final); the response is None at the end of a decoupled call that has no further one. On any thread."""

Cancel = Callable[[], None]
"""Nobody wants the answer any more. The call is answered finally all the same, if not at once."""


class ModelCaller(Protocol):
    """Calls models of this server, wherever they are loaded. Thread-safe."""

    def call(self, call: ModelCall, on_response: OnResponse, *, inline: bool) -> Cancel:
        """Run a request of a model.

        Args:
            inline: a quick model may run on this thread, so that it may have answered when this returns. Not for a
                thread that has an event loop.

        Raises:
            TensorhubError: the request is refused; `on_response` will not be called.
        """

    def is_ready(self, model: str, version: int | str) -> bool:
        """Whether a version of a model is served; -1 or "": any.

        Raises:
            InvalidArgument: the version is a text, and no number.
        """

    def is_decoupled(self, model: str, version: int) -> bool:
        """Whether a request of the model may have other than one response.

        Raises:
            TensorhubError: it is not served.
        """

    def control(self, operation: Any, on_result: Callable[[TensorhubError | None], None]) -> None:
        """Have the hub carry out a `tensorhub.wire.Control`."""

    def may_block(self) -> None:
        """Call this on a thread that is going to wait for one of the above: the worker must not wait as well."""

    def soon(self, call: Callable[[], None]) -> None:
        """Have `call` run on the worker's loop; from any thread, and at any point of it."""


_installed: list[ModelCaller] = []


def install(caller: ModelCaller) -> None:
    """Make `caller` the process's."""
    _installed[:] = [caller]


def caller() -> ModelCaller:
    """Return the process's caller.

    Raises:
        Unavailable: this process is no worker.
    """
    if not _installed:
        raise Unavailable("models can be called only in a worker process")
    return _installed[0]


def may_block() -> None:
    """Call this on a thread that runs a model, when what it is going to wait for may call models."""
    if _installed:
        _installed[0].may_block()


def soon(call: Callable[[], None]) -> None:
    """Have `call` run where it may take locks and send: for finalizers, which may run in the middle of anything."""
    if _installed:
        _installed[0].soon(call)
    else:
        call()
