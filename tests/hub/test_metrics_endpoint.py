"""The metrics endpoint's answers, and what clients can do to it."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from tensorhub.hub import metrics_endpoint
from tensorhub.hub.metrics_endpoint import MetricsEndpoint
from tests.serving import free_ports


class Pages:
    """Makes pages when it is told to."""

    def __init__(self) -> None:
        self.asked: list[Future[str]] = []
        self.at_once = True
        self.came = threading.Semaphore(0)

    def __call__(self, page: Future[str]) -> None:
        self.asked.append(page)
        self.came.release()
        if self.at_once:
            page.set_result(f"page {len(self.asked)}\n")


@pytest.fixture
def pages() -> Pages:
    return Pages()


@pytest.fixture
def port(pages: Pages) -> Iterator[int]:
    [port] = free_ports(1)
    endpoint = MetricsEndpoint("127.0.0.1", port, pages)
    endpoint.start()
    yield port
    endpoint.close()


def ask(port: int, method: str = "GET", path: str = "/metrics") -> tuple[int, str, str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode(), response.getheader("Content-Type")
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/metrics", (200, "page 1\n", "text/plain; charset=utf-8")),
        ("GET", "/metrics/", (200, "page 1\n", "text/plain; charset=utf-8")),
        ("GET", "/metrics?x=1", (200, "page 1\n", "text/plain; charset=utf-8")),
        ("GET", "/", (200, "", None)),
        ("GET", "/other", (200, "", None)),
        ("POST", "/metrics", (405, "", None)),
        ("DELETE", "/metrics", (405, "", None)),
        ("NONSENSE", "/metrics", (405, "", None)),
    ],
)
def test_answers(port: int, method: str, path: str, expected: tuple[int, str, str | None]) -> None:
    assert ask(port, method, path) == expected


def test_each_request_gets_a_new_page(port: int) -> None:
    assert [ask(port)[1], ask(port)[1]] == ["page 1\n", "page 2\n"]


def test_requests_that_come_together_share_a_page(port: int, pages: Pages) -> None:
    pages.at_once = False
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(port)[1])) for _ in range(6)]
    for thread in threads:
        thread.start()
    assert pages.came.acquire(timeout=60)
    page = pages.asked[0]
    pages.at_once = True
    page.set_result("shared\n")
    for thread in threads:
        thread.join(60)
    assert answers.count("shared\n") >= 1
    assert len(answers) == 6


def test_a_hub_that_does_not_answer_is_a_503(port: int, pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_endpoint, "PAGE_TIMEOUT_S", 0.05)
    pages.at_once = False
    assert ask(port)[:2] == (503, "")


def test_silent_clients_do_not_keep_others_out(port: int) -> None:
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(metrics_endpoint.CONNECTIONS_LIMIT - 1)]
    assert ask(port)[0] == 200
    for item in silent:
        item.close()


def test_a_port_in_use_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            MetricsEndpoint("127.0.0.1", taken.getsockname()[1], Pages())
