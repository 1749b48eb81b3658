"""What a model calls other models with: the work behind `exec`, `async_exec` and the model control functions.

A call that fails gives a response with an error, as in Triton, and no exception. What a called model returns belongs to
the caller: it is handed over as it is if nobody else refers to it, and copied otherwise.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from tensorhub.backends import calling
from tensorhub.backends.calling import ModelCall
from tensorhub.backends.privacy import copied, is_private
from tensorhub.backends.python.errors import TritonError, TritonModelException
from tensorhub.backends.python.preferred_memory import PreferredMemory
from tensorhub.backends.python.responses import InferenceResponse
from tensorhub.backends.python.tensors import Tensor
from tensorhub.errors import InternalError, TensorhubError
from tensorhub.protocol import messages
from tensorhub.requests import InferResponse
from tensorhub.requests import Tensor as WireTensor

if TYPE_CHECKING:
    import asyncio

_ONLY_IN_EXECUTE = "BLS is only supported during the 'execute' function."

_state = threading.local()


@contextmanager
def not_executing(instance: str) -> Iterator[None]:
    """Be around a model's `initialize` and `finalize`, from which no model can be run."""
    _state.instance = instance
    try:
        yield
    finally:
        _state.instance = ""


def run(call: ModelCall, decoupled: bool, preferred: PreferredMemory | None) -> "InferenceResponse | ResponseIterator":
    """Run a call and wait for its response, or start one that may have several.

    Args:
        preferred: where the outputs shall be.

    Raises:
        TritonModelException: not inside `execute`.
    """
    _check_executing()
    if decoupled:
        return _iterate(call, _Answers(preferred), inline=True)
    answers = _Answers(preferred)
    error = _start(call, answers, decoupled=False, inline=True)
    return _failed(error) if error is not None else answers.take()[0]


def start(call: ModelCall, decoupled: bool, preferred: PreferredMemory | None) -> "asyncio.Future[Any]":
    """Start a call from a coroutine, and return what to await: the response, or the iterator once it has one.

    Args:
        preferred: where the outputs shall be.

    Raises:
        TritonModelException: not inside `execute`.
        RuntimeError: there is no running event loop.
    """
    # Not at the top: asyncio takes memory, and most models do without it.
    import asyncio

    _check_executing()
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    iterator: list[ResponseIterator] = []

    def resolve() -> None:
        if not future.done():
            future.set_result(iterator[0] if decoupled else answers.take()[0])

    def on_first() -> None:
        try:
            loop.call_soon_threadsafe(resolve)
        except RuntimeError:
            return  # the model's event loop has been closed: nobody waits any more

    answers = _Answers(preferred, on_first)
    if decoupled:
        iterator.append(_iterate(call, answers, on_first, inline=False))
        return future
    error = _start(call, answers, decoupled=False, inline=False)
    if error is not None:
        future.set_result(_failed(error))
    return future


def control(what: str, operation: Any) -> None:
    """Have the hub carry out a `tensorhub.wire.Control`, and wait for it.

    Args:
        what: for the error's text.

    Raises:
        TritonModelException: it failed; the message says why.
    """
    done = threading.Event()
    errors: list[TensorhubError | None] = []

    def answered(error: TensorhubError | None) -> None:
        errors.append(error)
        done.set()

    caller = calling.caller()
    caller.control(operation, answered)
    if not done.is_set():
        caller.may_block()
        done.wait()
    if errors[0] is not None:
        raise control_error(what, errors[0].message)


def control_error(what: str, cause: str) -> TritonModelException:
    """Return the error of a model control function, in the words of Triton's Python backend."""
    # Models that use these functions run on threads that have the instance's name: see LoadedModel.calls_models.
    instance = getattr(_state, "instance", "") or threading.current_thread().name.removesuffix(" asyncio")
    return TritonModelException(
        f"Failed to {what}: Failed to process the request for model '{instance}', message: {cause}"
    )


def load_operation(name: str, config: str, files: Mapping[str, bytes] | None) -> Any:
    """Return the `tensorhub.wire.Control` that loads a model."""
    operation = messages.Control()
    load = operation.load_model
    load.name = name
    if config:
        load.has_config, load.config = True, config
    for path, content in (files or {}).items():
        load.files[path.removeprefix("file:")] = bytes(content)
    return operation


def unload_operation(name: str, unload_dependents: bool) -> Any:
    """Return the `tensorhub.wire.Control` that unloads a model."""
    operation = messages.Control()
    operation.unload_model.name = name
    operation.unload_model.unload_dependents = unload_dependents
    return operation


class _Answers:
    """What has come for a call, in order; for one thread that waits.

    A model of another worker waits when its responses are not taken. It must not wait for a caller that has let go of
    them, nor for one that waits for another call, whose turn may come only when this one is over: then they are taken
    from the worker as they come (`let_come`).
    """

    __slots__ = ("__weakref__", "_abandoned", "_changed", "_let_come", "_on_first", "_preferred", "_received")

    def __init__(self, preferred: PreferredMemory | None, on_first: Callable[[], None] | None = None) -> None:
        self._changed = threading.Condition()
        self._received: deque[tuple[InferResponse | None, bool]] = deque()
        self._on_first = on_first
        self._preferred = preferred
        self._let_come = False
        self._abandoned = False

    def put(self, response: InferResponse | None, final: bool) -> None:
        with self._changed:
            if not self._abandoned:
                self._received.append((response, final))
            let_come = self._let_come
            self._changed.notify()
        if let_come:
            _take(response)
        on_first, self._on_first = self._on_first, None
        if on_first is not None:
            on_first()

    def take(self) -> tuple[InferenceResponse, bool]:
        """Wait for the next response; return it, and whether it is the last one."""
        if not self._received:
            calling.caller().may_block()
            for other in list(_iterated()):
                if other is not self:
                    other.let_come()
            with self._changed:
                while not self._received:
                    self._changed.wait()
        with self._changed:
            response, final = self._received.popleft()
            let_come = self._let_come
        if not let_come:
            _take(response)
        return _received(response, self._preferred), final

    def let_come(self, *, abandoned: bool = False) -> None:
        """Have no more of them wait for their being taken; what is `abandoned` is not kept either."""
        with self._changed:
            waiting = [] if self._let_come else list(self._received)
            self._let_come = True
            if abandoned:
                self._abandoned = True
                self._received.clear()
        for response, _ in waiting:
            _take(response)


class ResponseIterator:
    """The responses of a call with `decoupled=True`, as they come.

    The last one may have no tensors. Iterated once more after its end, it starts from the first response again.
    """

    def __init__(self, answers: _Answers | None, cancel: Callable[[], None], error: TensorhubError | None) -> None:
        self._answers = answers
        self._cancel = cancel
        self._seen: list[InferenceResponse] = [] if error is None else [_failed(error)]
        self._next = 0

    def __iter__(self) -> "ResponseIterator":
        if self._answers is None and self._next >= len(self._seen):
            self._next = 0
        return self

    def __next__(self) -> InferenceResponse:
        if self._answers is not None:
            response, final = self._answers.take()
            self._seen.append(response)
            if final:
                self._answers = None
                self._next = len(self._seen)
            return response
        if self._next >= len(self._seen):
            raise StopIteration
        self._next += 1
        return self._seen[self._next - 1]

    def __del__(self) -> None:
        if self._answers is not None:
            calling.soon(partial(self._answers.let_come, abandoned=True))

    def cancel(self) -> None:
        """Tell the called model that no more responses are wanted; it decides what it does then, and when it ends."""
        if self._answers is not None:
            self._cancel()
            self._answers.let_come()


def _iterated() -> WeakSet[_Answers]:
    """Return the answers of the calls with several responses that this thread has made."""
    found: WeakSet[_Answers] | None = getattr(_state, "iterated", None)
    if found is None:
        found = _state.iterated = WeakSet()
    return found


def _take(response: InferResponse | None) -> None:
    if response is not None and response.taken is not None:
        response.taken()


def _check_executing() -> None:
    if getattr(_state, "instance", ""):
        raise TritonModelException(_ONLY_IN_EXECUTE)


def _iterate(
    call: ModelCall, answers: _Answers, on_first: Callable[[], None] | None = None, *, inline: bool
) -> ResponseIterator:
    cancels: list[Callable[[], None]] = []
    error = _start(call, answers, decoupled=True, inline=inline, cancels=cancels)
    if error is None:
        _iterated().add(answers)
        return ResponseIterator(answers, cancels[0], None)
    if on_first is not None:
        on_first()
    return ResponseIterator(None, lambda: None, error)


def _start(
    call: ModelCall,
    answers: _Answers,
    *,
    decoupled: bool,
    inline: bool,
    cancels: list[Callable[[], None]] | None = None,
) -> TensorhubError | None:
    """Start a call; return why it could not be started, in the words of Triton's Python backend."""
    caller = calling.caller()
    try:
        if not caller.is_ready(call.model, call.version):
            raise InternalError(f"Failed for execute the inference request. Model '{call.model}' is not ready.")
        if not decoupled and caller.is_decoupled(call.model, call.version):
            raise InternalError(
                f"Model {call.model} is using the decoupled. The current BLS request call doesn't support models using "
                "the decoupled transaction policy. Please use 'decoupled=True' argument to the 'exec' or 'async_exec' "
                "calls for decoupled models.'"
            )
        cancel = caller.call(call, answers.put, inline=inline)
    except TensorhubError as exc:
        return InternalError(f"Model {call.model} - Error when running inference: {exc.message}")
    if cancels is not None:
        cancels.append(cancel)
    return None


def _failed(error: TensorhubError) -> InferenceResponse:
    return InferenceResponse(error=TritonError(error.message, error.code))


def _received(response: InferResponse | None, preferred: PreferredMemory | None) -> InferenceResponse:
    """Return a response as a model sees it; None, the end of several, has no tensors."""
    if response is None:
        return InferenceResponse([])
    if response.error is not None:
        return _failed(response.error)
    try:
        outputs = [tensor if _is_own(tensor) else copied(tensor) for tensor in response.outputs]
        if preferred is not None:
            outputs = [preferred.placed(tensor) for tensor in outputs]
    except TensorhubError as exc:
        return _failed(exc)
    return InferenceResponse([Tensor._from_wire(tensor) for tensor in outputs], parameters=response.parameters)


def _is_own(tensor: WireTensor) -> bool:
    """Tell whether the caller may do with a tensor what it likes."""
    return isinstance(tensor.data, bytes) or is_private(tensor)
