"""Take the next states of a sequence out of a model's responses, for the scheduler to keep.

A state output is the next step's input. It is a copy, since the model may use the memory of its outputs again; and it
goes to the client too if the config lists it among the outputs, and the client wants it.
"""

from collections.abc import Collection

from tensorhub.requests import InferRequest, InferResponse, Responder


class StateOutputs:
    """Of one model.

    Args:
        states: names of the outputs that are states.
        outputs: names of the model's outputs that clients may have.
    """

    def __init__(self, states: Collection[str], outputs: Collection[str]) -> None:
        self._states = states
        self._outputs = outputs

    def watch(self, request: InferRequest) -> None:
        """Look at the responses to a request before its responder does."""
        inner = request.responder
        assert inner is not None
        request.responder = self._responder(inner)

    def _responder(self, inner: Responder) -> Responder:
        def respond(request: InferRequest, response: InferResponse | None, final: bool) -> None:
            if response is not None and response.error is None:
                self._keep(request, response)
            inner(request, response, final)

        return respond

    def _keep(self, request: InferRequest, response: InferResponse) -> None:
        found = [output for output in response.outputs if output.name in self._states]
        request.next_states = {item.name: item.kept() for item in found}
        wanted = {item.name for item in request.requested} or self._outputs
        response.outputs = [
            output
            for output in response.outputs
            if output.name not in self._states or (output.name in self._outputs and output.name in wanted)
        ]
