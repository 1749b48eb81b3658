"""`pb_utils.InferenceResponse` and its sender."""

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tensorhub.backends import calling
from tensorhub.backends.python.errors import TritonError, TritonModelException, to_tensorhub
from tensorhub.backends.python.tensors import Tensor
from tensorhub.requests import InferRequest, InferResponse, Parameter

log = logging.getLogger(__name__)

RESPONSE_COMPLETE_FINAL = 1
"""TRITONSERVER_RESPONSE_COMPLETE_FINAL."""


_CLOSED = "Unable to send response. Response sender has been closed."


class InferenceResponse:
    """What a model answers to one request; with an error, the tensors do not count."""

    __slots__ = ("_error", "_parameters", "_tensors")

    def __init__(
        self,
        output_tensors: Sequence[Tensor] = (),
        error: TritonError | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        tensors = output_tensors if type(output_tensors) is list else _as_list(output_tensors)
        if (error is not None and not isinstance(error, TritonError)) or tensors is None:
            raise _refused(output_tensors, error)
        for tensor in tensors:
            if type(tensor) is not Tensor:
                raise _refused(output_tensors, error)
        self._tensors = tensors
        self._error = error
        self._parameters = checked_parameters(parameters) if parameters else {}

    def output_tensors(self) -> list[Tensor]:
        return self._tensors

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError | None:
        return self._error

    def parameters(self) -> str:
        """Return the parameters as JSON."""
        return json.dumps(self._parameters)

    def _to_server(self, wanted: frozenset[str] | set[str]) -> InferResponse:
        """Return the server's form with the outputs of `wanted`."""
        if self._error is not None:
            return InferResponse(error=to_tensorhub(self._error))
        outputs = [tensor._to_wire() for tensor in self._tensors if tensor._name in wanted]
        return InferResponse(outputs, self._parameters)


def _as_list(tensors: Any) -> list[Tensor] | None:
    return list(tensors) if isinstance(tensors, Sequence) and not isinstance(tensors, str) else None


def _refused(output_tensors: object, error: object) -> TypeError:
    shown = [] if output_tensors == () else [repr(output_tensors)]
    if error is not None:
        shown.append(f"kwargs: error={error!r}")
    return TypeError(
        "__init__(): incompatible constructor arguments. The following argument types are supported:\n    1. "
        "c_python_backend_utils.InferenceResponse(output_tensors: List[c_python_backend_utils.Tensor] = [], error: "
        f"c_python_backend_utils.TritonError = None)\n\nInvoked with: {', '.join(shown)}"
    )


def checked_parameters(parameters: Mapping[Any, Any]) -> dict[str, Parameter]:
    """Return a copy of request or response parameters.

    Raises:
        TritonModelException: a key is no str, or a value no bool, int or str.
    """
    if not isinstance(parameters, Mapping):
        raise TritonModelException(f"Expect parameters to have type dict, found type {type(parameters)}")
    for key, value in parameters.items():
        if not isinstance(key, str):
            raise TritonModelException(f"Expect parameters keys to have type str, found type {type(key)}")
        if not isinstance(value, (bool, int, str)):
            raise TritonModelException(f"Expect parameters values to have type bool/int/str, found type {type(value)}")
    return dict(parameters)


class InferenceResponseSender:
    """Answers a request at any time and from any thread.

    A model that is not decoupled sends one response, and the final flag with it or after it; the request is over with
    the flag, so that the model may read its inputs until then. A decoupled model sends as many as it likes, and waits
    in `send` for a client that reads slowly. A sender that is dropped without the final flag ends its request.
    """

    __slots__ = ("_closed", "_decoupled", "_lock", "_request", "_sent", "_wanted")

    def __init__(self, request: InferRequest, wanted: frozenset[str] | set[str], decoupled: bool) -> None:
        self._request = request
        self._wanted = wanted
        self._decoupled = decoupled
        self._lock = threading.Lock()
        self._closed = False
        self._sent = False

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        """Send a response, or end the request, or both.

        Raises:
            TritonModelException: the sender is closed, or the arguments make no sense.
        """
        if flags not in (0, RESPONSE_COMPLETE_FINAL):
            raise TritonModelException("Unable to send response. Unsupported flag provided.")
        if response is None and flags == 0:
            raise TritonModelException(
                "Inference Response object must be provided when the response flags is set to zero."
            )
        if response is not None and not isinstance(response, InferenceResponse):
            raise TypeError(f"send() takes an InferenceResponse or None, not {type(response)}")
        final = flags == RESPONSE_COMPLETE_FINAL
        answer = None if response is None else response._to_server(self._wanted)
        with self._lock:
            self._check(answer, final)
            self._closed = final
            self._sent = self._sent or answer is not None
        try:
            self._request.respond(answer, final)
        except RuntimeError as exc:
            raise TritonModelException(_CLOSED) from exc

    def _give_way(self) -> bool:
        """Close the sender, as `execute` has returned a response too; False if one has been sent, which then counts."""
        with self._lock:
            if self._closed:
                return False
            self._closed = True
        if self._sent:
            self._request.respond(None)
        return not self._sent

    def is_cancelled(self) -> bool:
        """Tell whether the client has gone."""
        return self._request.cancelled

    def _check(self, answer: InferResponse | None, final: bool) -> None:
        if not self._decoupled and answer is not None and self._sent:
            raise TritonModelException(
                "Unable to send response. Non-decoupled model cannot send more than one response."
            )
        if self._closed:
            raise TritonModelException(_CLOSED)
        if self._decoupled:
            return
        if final and answer is None and not self._sent:
            raise TritonModelException(
                "Unable to send response. Non-decoupled model cannot send complete final before sending a response."
            )

    def __del__(self) -> None:
        if self._closed or self._request.answered:
            return
        self._closed = True
        calling.soon(partial(_end_dropped, self._request, self._decoupled or self._sent))


def _end_dropped(request: InferRequest, without_answer: bool) -> None:
    """End a request that nobody can answer any more; `without_answer`: it has had its answers."""
    if request.answered:
        return
    log.warning("a model has dropped the sender of request '%s' before its end", request.request_id)
    if without_answer:
        request.respond(None)
    else:
        request.fail(to_tensorhub(TritonError("The model has dropped the request without sending a response.")))
