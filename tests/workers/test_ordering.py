"""Responses leave in the order of their requests, whatever the order in which they come."""

import threading
from collections.abc import Callable

import pytest
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


def test_a_request_that_runs_again_keeps_its_turn() -> None:
    order, sent = ResponseOrder(), _Sent()
    first, second = (_request(name, sent) for name in "ab")
    for request in (first, second, first):
        order.join(request)
    second.respond(InferResponse())
    first.respond(InferResponse())
    assert sent == [("a", True), ("b", True)]


def test_nobody_waits_for_a_client_that_does_not_read() -> None:
    order, sent = ResponseOrder(), _Sent()
    reads, waits = threading.Event(), threading.Event()
    first, second, third = (_request(name, sent) for name in "abc")

    def slow(request: InferRequest, response: InferResponse | None, final: bool) -> None:
        waits.set()
        assert reads.wait(10)
        sent.append((request.request_id, final))

    first.responder = slow
    order.join(first)
    sender = threading.Thread(target=lambda: [first.respond(InferResponse(), final=last) for last in (False, True)])
    sender.start()
    assert waits.wait(10)
    order.join(second)
    second.respond(InferResponse())
    order.join(third)
    assert sent == []
    reads.set()
    sender.join()
    assert sent == [("a", False), ("a", True), ("b", True)]
    third.respond(InferResponse())
    assert sent[3:] == [("c", True)]


def test_an_answer_may_bring_about_another_of_the_same_model() -> None:
    order, sent = ResponseOrder(), _Sent()
    second = _request("b", sent)

    def follow(request: InferRequest, response: InferResponse | None, final: bool) -> None:
        order.join(second)
        second.respond(InferResponse())
        sent.append((request.request_id, final))

    first = InferRequest("m", 1, "a", {}, responder=follow)
    order.join(first)
    first.respond(InferResponse())
    assert sent == [("a", True), ("b", True)]


def test_an_answer_that_fails_does_not_keep_back_the_others() -> None:
    order, sent = ResponseOrder(), _Sent()
    second = _request("b", sent)

    def fail(request: InferRequest, response: InferResponse | None, final: bool) -> None:
        raise ValueError("told to fail")

    first = InferRequest("m", 1, "a", {}, responder=fail)
    for request in (first, second):
        order.join(request)
    second.respond(InferResponse())
    with pytest.raises(ValueError, match="told to fail"):
        first.respond(InferResponse())
    assert sent == [("b", True)]


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
