"""Let responses leave in the order in which their requests were taken out of the queue (`preserve_ordering`).

Instances finish in any order; a response that is ahead of its turn is held. What is held is a copy: the model may use
the memory of its outputs again as soon as it has answered.
"""

import threading
from collections import deque
from dataclasses import replace

from tensorhub.requests import InferRequest, InferResponse, Responder, Tensor

_Answer = tuple[InferResponse | None, bool]


class _Turn:
    """A request that has been taken out of the queue, and its answers until it is its turn."""

    __slots__ = ("ended", "held", "responder")

    def __init__(self, responder: Responder) -> None:
        self.responder = responder
        self.held: list[_Answer] = []
        self.ended = False


class ResponseOrder:
    """The order of one model version. Thread-safe; responses are passed on one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line: deque[tuple[InferRequest, _Turn]] = deque()
        self._turns: dict[InferRequest, _Turn] = {}

    def join(self, request: InferRequest) -> None:
        """Give a request the next turn; its answers come through here from now on."""
        assert request.responder is not None
        turn = _Turn(request.responder)
        with self._lock:
            self._line.append((request, turn))
            self._turns[request] = turn
        request.responder = self._respond

    def _respond(self, request: InferRequest, response: InferResponse | None, final: bool) -> None:
        with self._lock:
            turn = self._turns[request]
            turn.ended = final
            if self._line[0][1] is not turn:
                turn.held.append((_kept(response), final))
                return
            turn.responder(request, response, final)
            if final:
                self._advance()

    def _advance(self) -> None:
        """The first in the line is done: pass on what that has held up."""
        del self._turns[self._line.popleft()[0]]
        while self._line:
            request, turn = self._line[0]
            for response, final in turn.held:
                turn.responder(request, response, final)
            turn.held.clear()
            if not turn.ended:
                return
            del self._turns[self._line.popleft()[0]]


def _kept(response: InferResponse | None) -> InferResponse | None:
    if response is None:
        return None
    return replace(response, outputs=[_copy(tensor) for tensor in response.outputs])


def _copy(tensor: Tensor) -> Tensor:
    return Tensor(tensor.name, tensor.datatype, tensor.shape, memoryview(tensor.data).tobytes())
