"""Let responses leave in the order in which their requests were taken out of the queue (`preserve_ordering`).

Instances finish in any order; a response that is ahead of its turn is held. What is held is a copy: the model may use
the memory of its outputs again as soon as it has answered.

To pass a response on may take its time (a streamed one waits for its client) and may bring more responses of the same
model about. So it happens without the lock, by one thread at a time; what comes meanwhile is held, and that thread
passes it on as well.
"""

import threading
from collections import deque
from dataclasses import replace

from tensorhub.requests import InferRequest, InferResponse, Responder

_Answer = tuple[InferResponse | None, bool]
_Passed = tuple[InferRequest, Responder, InferResponse | None, bool]


class _Turn:
    """A request that has been taken out of the queue, and its answers until it is its turn."""

    __slots__ = ("held", "responder")

    def __init__(self, responder: Responder) -> None:
        self.responder = responder
        self.held: deque[_Answer] = deque()


class ResponseOrder:
    """The order of one model version. Thread-safe; responses are passed on one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line: deque[tuple[InferRequest, _Turn]] = deque()
        self._turns: dict[InferRequest, _Turn] = {}
        self._passing = False

    def join(self, request: InferRequest) -> None:
        """Give a request the next turn; its answers come through here from now on. One that runs again has its turn."""
        with self._lock:
            if request in self._turns:
                return
            assert request.responder is not None
            turn = self._turns[request] = _Turn(request.responder)
            self._line.append((request, turn))
            request.responder = self._respond

    def _respond(self, request: InferRequest, response: InferResponse | None, final: bool) -> None:
        with self._lock:
            turn = self._turns[request]
            if self._passing or self._line[0][1] is not turn:
                turn.held.append((_kept(response), final))
                return
            self._passing = True
        passed: _Passed | None = (request, turn.responder, response, final)
        error: Exception | None = None
        while passed is not None:
            item, responder, response, final = passed
            try:
                responder(item, response, final)
            except Exception as exc:
                error = exc  # the others get theirs all the same
            passed = self._next(final)
        if error is not None:
            raise error

    def _next(self, ended: bool) -> _Passed | None:
        """Return what is to be passed on after the last answer of the first in the line; None for nothing, for now."""
        with self._lock:
            if ended:
                del self._turns[self._line.popleft()[0]]
            if self._line:
                request, turn = self._line[0]
                if turn.held:
                    return request, turn.responder, *turn.held.popleft()
            self._passing = False
            return None


def _kept(response: InferResponse | None) -> InferResponse | None:
    if response is None:
        return None
    return replace(response, outputs=[tensor.kept() for tensor in response.outputs])
