"""The two shapes of a method that is not inference: answered from the catalog at once, or by the hub in a while."""

from collections.abc import Callable, Sequence
from typing import Any

from tensorhub.errors import InternalError, TensorhubError, error_for
from tensorhub.frontend.catalog import Catalog
from tensorhub.frontend.port import GatewayPort
from tensorhub.frontend.readiness import readiness_check
from tensorhub.grpc.engine import Call
from tensorhub.protocol import messages

UNPARSABLE = "Unable to parse request"
"""Triton's answer to bytes that are not the method's request, INTERNAL."""

MAX_DETAILS_SIZE = 4_000
"""Bytes of a status text. It travels in a header, and clients refuse headers of more than 8 KiB together."""


def refuse(call: Call, error: TensorhubError) -> None:
    """Answer a call with an error."""
    call.fail(error.grpc_status, status_details(error.message))


def status_details(message: str) -> str:
    """Return a text that fits a status: gRPC writes what is not printable ASCII as three characters for each byte."""
    size = 0
    for index, char in enumerate(message):
        size += 1 if " " <= char <= "~" else 3 * len(char.encode("utf-8", "replace"))
        if size > MAX_DETAILS_SIZE:
            return message[:index] + "..."
    return message


def parse(request_class: Any, message: bytes) -> Any:
    """Read a request.

    Raises:
        InternalError: it is none.
    """
    try:
        return request_class.FromString(message)
    except messages.DecodeError as exc:
        raise InternalError(UNPARSABLE) from exc


class FromCatalog:
    """A method that is answered from this process's copy of the server's state."""

    def __init__(self, gateway: GatewayPort, request_class: Any, answer: Callable[[Catalog, Any], Any]) -> None:
        self._gateway = gateway
        self._request_class = request_class
        self._answer = answer

    def __call__(self, call: Call, message: bytes) -> None:
        try:
            response = self._answer(self._gateway.catalog, parse(self._request_class, message))
        except TensorhubError as error:
            refuse(call, error)
        else:
            call.reply(response.SerializeToString())


Asked = Callable[[Catalog, Any], Sequence[int]]
"""(catalog, request) to the loads whose models have to be asked whether they are ready, or raises."""


class AfterModels:
    """A method that is answered from the catalog, when the models that have a say have been asked.

    Its answer is called with the catalog, the request, and whether all of them say that they are ready.
    """

    def __init__(
        self, gateway: GatewayPort, request_class: Any, asked: Asked, answer: Callable[[Catalog, Any, bool], Any]
    ) -> None:
        self._gateway = gateway
        self._request_class = request_class
        self._asked = asked
        self._answer = answer

    def __call__(self, call: Call, message: bytes) -> None:
        catalog = self._gateway.catalog
        try:
            request = parse(self._request_class, message)
            load_ids = self._asked(catalog, request)
            response = self._answer(catalog, request, True)
        except TensorhubError as error:
            refuse(call, error)
            return
        if not load_ids:
            call.reply(response.SerializeToString())
            return

        def on_result(result: Any, error: TensorhubError | None) -> None:
            agreed = error is None and not result.code
            call.reply(self._answer(catalog, request, agreed).SerializeToString())

        self._gateway.control(readiness_check(load_ids), on_result)


Operation = Callable[[Catalog, Any, str], Any]
"""(catalog, request, the client's address in gRPC's form) to a `tensorhub.wire.Control`, or raises."""

Conclusion = Callable[[Any, Any], Any]
"""(request, ControlResult of a success) to the response."""


class ByHub:
    """A method that the hub carries out."""

    def __init__(self, gateway: GatewayPort, request_class: Any, operation: Operation, conclusion: Conclusion) -> None:
        self._gateway = gateway
        self._request_class = request_class
        self._operation = operation
        self._conclusion = conclusion

    def __call__(self, call: Call, message: bytes) -> None:
        try:
            request = parse(self._request_class, message)
            catalog = self._gateway.catalog
            catalog.check_serving()
            operation = self._operation(catalog, request, call.peer)
        except TensorhubError as error:
            refuse(call, error)
            return

        def on_result(result: Any, error: TensorhubError | None) -> None:
            if error is not None:
                refuse(call, error)
            elif result.code:
                refuse(call, error_for(result.code - 1, result.message))
            else:
                call.reply(self._conclusion(request, result).SerializeToString())

        self._gateway.control(operation, on_result)
