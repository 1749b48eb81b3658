"""Responses leave in the order of their requests, whatever the order in which they come."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from tensorhub.requests import InferRequest, InferResponse, Tensor
from tensorhub.tensors import DataType
from tensorhub.workers.ordering import ResponseOrder

_Sent = list[tuple[str, bool]]


def _request(name: str, sent: _Sent) -> InferRequest:
    request = InferRequest("m", 1, name, {})
    request.responder = lambda item, response, final: sent.append((item.request_id, final))
    return request


def test_a_response_ahead_of_its_turn_is_held() -> None:
    order, sent = ResponseOrder(), _Sent()
    first, second, third = (_request(name, sent) for name in "abc")
    for request in (first, second, third):
        order.join(request)
    third.respond(InferResponse())
    second.respond(InferResponse(), final=False)
    assert sent == []
    first.respond(InferResponse())
    assert sent == [("a", True), ("b", False)]
    second.respond(None)
    assert sent == [("a", True), ("b", False), ("b", True), ("c", True)]


def test_what_is_held_is_a_copy() -> None:
    order = ResponseOrder()
    got: list[bytes] = []
    first, second = InferRequest("m", 1, "a", {}), InferRequest("m", 1, "b", {})
    for request in (first, second):
        request.responder = lambda _, response, final: got.extend(bytes(item.data) for item in response.outputs)
        order.join(request)
    memory = bytearray(b"right")
    second.respond(InferResponse([Tensor("x", DataType.UINT8, (5,), memory)]))
    memory[:] = b"wrong"
    first.respond(InferResponse())
    assert got == [b"right"]


@given(st.permutations(range(6)))
def test_any_order_of_answers(answers: list[int]) -> None:
    order, sent = ResponseOrder(), _Sent()
    requests = [_request(str(number), sent) for number in range(6)]
    respond: list[Callable[[], None]] = []
    for request in requests:
        order.join(request)
        respond.append(lambda request=request: request.respond(InferResponse()))  # type: ignore[misc]
    for number in answers:
        respond[number]()
    assert sent == [(str(number), True) for number in range(6)]
