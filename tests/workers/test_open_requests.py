"""The end of a load that takes no more requests: told once, when the last one is closed."""

import threading

import pytest

from tensorhub.requests import InferRequest
from tensorhub.workers.open_requests import OpenRequests
from tensorhub.workers.serving import Retired


def test_it_ends_with_the_last_request() -> None:
    ends: list[str] = []
    requests = OpenRequests(threading.Lock())
    request = InferRequest("m", 1, "7", {})
    for _ in range(2):
        requests.check(request)
        requests.add()
    requests.closed()
    requests.drain(lambda: ends.append("end"))
    assert requests.draining
    assert ends == []
    with pytest.raises(Retired, match=r"^\[request id: 7\] Server is stopping"):
        requests.check(request)
    requests.closed()
    assert ends == ["end"]


def test_without_requests_it_ends_at_once_and_once() -> None:
    ends: list[str] = []
    requests = OpenRequests(threading.Lock())
    for _ in range(2):
        requests.drain(lambda: ends.append("end"))
    assert ends == ["end"]


def test_who_is_held_still_takes_requests_and_stays() -> None:
    ends: list[str] = []
    requests = OpenRequests(threading.Lock())
    request = InferRequest("m", 1, "7", {})
    assert requests.hold()
    requests.drain(lambda: ends.append("end"))
    requests.check(request)
    requests.add()
    # Another one that comes while it is held is not lost either.
    assert requests.hold()
    requests.release()
    requests.release()
    with pytest.raises(Retired):
        requests.check(request)
    assert not requests.hold()
    assert ends == []
    requests.closed()
    assert ends == ["end"]
