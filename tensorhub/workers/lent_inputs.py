"""Inputs that lie in the arena of the process that asks, and models that keep them.

That memory is the asker's again with the last answer, and holds another request's tensors then. But a model may keep
the array of an input for as long as it likes, as under Triton, where it has a copy. So the asker is told with the last
answer if something still refers to the inputs, and once more when nothing does.

Strategy: CPython counts references, and all arrays on an input refer to one array, whose own references are known.
"""

import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from tensorhub.requests import InferRequest, InferResponse

_OWN_REFERENCES = 3
"""The input's, its memoryview's, and that of getrefcount's argument."""

_REFERENCES_OF_OUTPUT = 4
"""The response's, that of the model's tensor, a local name's, and that of getrefcount's argument."""

Array = npt.NDArray[Any]

Whose = TypeVar("Whose")


class LentInput:
    """See tensorhub.memory.Held.

    Attributes:
        view: the input (format "B"), writable.
        memory: the array to which every array on it refers; None once it is released.
    """

    __slots__ = ("memory", "view")

    def __init__(self, view: memoryview) -> None:
        memory: Any = np.frombuffer(view, np.uint8)
        self.memory: Array | None = memory
        self.view = memoryview(memory)

    def release(self) -> None:
        """End the use by the request; what has been kept stays as it is."""
        self.memory = None
        self.view = memoryview(b"")


def kept_inputs(request: InferRequest, response: InferResponse | None) -> list[Array]:
    """Return those of the lent inputs that something else than the request and its last response refers to."""
    found = []
    for lease in request.leases:
        if type(lease) is LentInput and lease.memory is not None:
            given = 0 if response is None else _given(lease.memory, response)
            if sys.getrefcount(lease.memory) > _OWN_REFERENCES + given:
                found.append(lease.memory)
    return found


def _given(memory: Array, response: InferResponse) -> int:
    """Count the arrays on this memory that nothing but the response refers to."""
    count = 0
    for tensor in response.outputs:
        data = tensor.data
        if isinstance(data, np.ndarray) and data.base is memory and sys.getrefcount(data) <= _REFERENCES_OF_OUTPUT:
            count += 1
    return count


class KeptInputs(Generic[Whose]):
    """The inputs that models keep of requests that are over. `keep` may be called on any thread.

    Args:
        post: have a call run on one thread, on which everything else happens; from any thread, and at any point of it.
        on_gone: nothing refers to the inputs of a request any more.
    """

    def __init__(self, post: Callable[[Callable[[], None]], None], on_gone: Callable[[Whose], None]) -> None:
        self._post = post
        self._on_gone = on_gone
        self._kept: dict[Whose, list[weakref.ref[Array]]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, whose: Whose, inputs: Sequence[Array]) -> None:
        """Tell when all of these have gone, which are there now."""

        def gone(reference: "weakref.ref[Array]") -> None:
            self._post(lambda: self._gone(whose, reference))

        self._kept[whose] = [weakref.ref(item, gone) for item in inputs]

    def _gone(self, whose: Whose, reference: "weakref.ref[Array]") -> None:
        left = self._kept.get(whose)
        if left is None:
            return
        left.remove(reference)
        if not left:
            del self._kept[whose]
            self._on_gone(whose)

    def close(self) -> None:
        """Tell nobody any more."""
        self._kept.clear()
