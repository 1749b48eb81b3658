"""Clients that work without a pause while processes die, and keep account of what they were told.

Every request carries numbers that no other request of any client has, so an answer that belongs to another request, or
to memory that has been used again, is found out.
"""

import http.client
import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

_TIMEOUT_S = 60.0
_BIG = 300_000  # elements of four bytes: too many to travel inline
_RECONNECT_AT_ONCE = [("grpc.initial_reconnect_backoff_ms", 20), ("grpc.max_reconnect_backoff_ms", 50)]


class Load:
    """What the clients have seen. `good`, `refused` and `dropped` count by client; `wrong` must stay empty."""

    def __init__(self) -> None:
        self.good: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.stopped = threading.Event()

    def __repr__(self) -> str:
        return (
            f"<Load good {dict(self.good)}, refused {dict(self.refused)}, dropped {dict(self.dropped)}, {self.wrong}>"
        )

    def progress(self, more: int = 3) -> Callable[[], bool]:
        """Return a condition: since now every client has had so many good answers more."""
        before = self.good.copy()
        return lambda: all(self.good[name] >= before[name] + more for name in CLIENTS)

    def failures(self) -> Counter[str]:
        return self.refused + self.dropped


def http_json(load: Load, address: str, numbers: Iterator[int]) -> None:
    """add_sub in JSON, as small requests come."""
    with _connected(address) as ask:
        while not load.stopped.is_set():
            number = next(numbers)
            sent = {
                "inputs": [
                    {"name": "INPUT0", "datatype": "INT32", "shape": [1, 16], "data": [number + i for i in range(16)]},
                    {"name": "INPUT1", "datatype": "INT32", "shape": [1, 16], "data": [number] * 16},
                ]
            }
            answer = ask("/v2/models/add_sub/infer", json.dumps(sent).encode(), {})
            if _http_good(load, "http_json", answer):
                outputs = {item["name"]: item["data"] for item in json.loads(answer[1])["outputs"]}
                expected = {"OUTPUT0": [2 * number + i for i in range(16)], "OUTPUT1": list(range(16))}
                _judge(load, "http_json", outputs == expected, f"{number}: {outputs}")


def http_binary(load: Load, address: str, numbers: Iterator[int]) -> None:
    """identity with a tensor that goes through the arenas."""
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "INPUT0",
                    "datatype": "FP32",
                    "shape": [_BIG],
                    "parameters": {"binary_data_size": 4 * _BIG},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    with _connected(address) as ask:
        while not load.stopped.is_set():
            number = next(numbers)
            tensor = np.full(_BIG, number, np.float32)
            answer = ask("/v2/models/identity/infer", head + tensor.tobytes(), headers)
            if _http_good(load, "http_binary", answer):
                same = answer[1][-4 * _BIG :] == tensor.tobytes()
                _judge(load, "http_binary", same, f"{number}: another tensor came back")


def grpc_small(load: Load, address: str, numbers: Iterator[int]) -> None:
    """add_sub over gRPC."""
    with _grpc_client(address) as client:
        while not load.stopped.is_set():
            number = next(numbers)
            first = np.arange(number, number + 16, dtype=np.int32).reshape(1, 16)
            second = np.full((1, 16), number, np.int32)
            result = _grpc(load, "grpc_small", client, "add_sub", {"INPUT0": first, "INPUT1": second})
            if result is not None:
                right = np.array_equal(result.as_numpy("OUTPUT0"), first + second)
                right = right and np.array_equal(result.as_numpy("OUTPUT1"), first - second)
                _judge(load, "grpc_small", right, f"{number}: {result.as_numpy('OUTPUT0')}")


def grpc_big(load: Load, address: str, numbers: Iterator[int]) -> None:
    """identity over gRPC with a tensor that goes through the arenas."""
    with _grpc_client(address) as client:
        while not load.stopped.is_set():
            number = next(numbers)
            tensor = np.full(_BIG, number, np.float32)
            result = _grpc(load, "grpc_big", client, "identity", {"INPUT0": tensor})
            if result is not None:
                same = np.array_equal(result.as_numpy("OUTPUT0"), tensor)
                _judge(load, "grpc_big", same, f"{number}: another tensor came back")


_HTTP = {"http_json": http_json, "http_binary": http_binary}
_GRPC = {"grpc_small": grpc_small, "grpc_big": grpc_big}
CLIENTS = (*_HTTP, *_GRPC)


@contextmanager
def loaded(http_address: str, grpc_address: str) -> Iterator[Load]:
    """Run one client of each kind until the block ends; then no answer may have been wrong."""
    load = Load()
    numbers = itertools.count(1)
    threads = [
        threading.Thread(target=_guarded, args=(load, name, client, address, numbers), daemon=True)
        for group, address in ((_HTTP, http_address), (_GRPC, grpc_address))
        for name, client in group.items()
    ]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stopped.set()
        for thread in threads:
            thread.join(_TIMEOUT_S + 5)
    assert not any(thread.is_alive() for thread in threads), "a request got no answer at all"
    assert load.wrong == [], load.wrong


Client = Callable[[Load, str, Iterator[int]], None]


def _guarded(load: Load, name: str, client: Client, address: str, numbers: Iterator[int]) -> None:
    try:
        client(load, address, numbers)
    except Exception as exc:
        load.wrong.append(f"{name}: {type(exc).__name__}: {exc}")


def _judge(load: Load, name: str, right: bool, account: str) -> None:
    if right:
        load.good[name] += 1
    else:
        load.wrong.append(f"{name}: {account}"[:400])


def _http_good(load: Load, name: str, answer: tuple[int, bytes]) -> bool:
    status, body = answer
    if status == 200:
        return True
    if status == 0:
        load.dropped[name] += 1
        load.stopped.wait(0.01)
    elif status == 503 and json.loads(body)["error"]:
        load.refused[name] += 1
        load.stopped.wait(0.01)
    else:
        load.wrong.append(f"{name}: {status} {body[:300]!r}")
    return False


@contextmanager
def _connected(address: str) -> Iterator[Callable[[str, bytes, dict[str, str]], tuple[int, bytes]]]:
    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_S)

    def ask(path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """Return status and body; (0, reason) if the connection failed."""
        try:
            connection.request("POST", path, body=body, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as exc:
            connection.close()
            return 0, repr(exc).encode()

    try:
        yield ask
    finally:
        connection.close()


@contextmanager
def _grpc_client(address: str) -> Iterator[Any]:
    with tritonclient.grpc.InferenceServerClient(address, channel_args=_RECONNECT_AT_ONCE) as client:
        yield client


def _grpc(load: Load, name: str, client: Any, model: str, tensors: dict[str, Any]) -> Any:
    inputs = []
    for tensor_name, tensor in tensors.items():
        datatype = "INT32" if tensor.dtype == np.int32 else "FP32"
        inputs.append(tritonclient.grpc.InferInput(tensor_name, tensor.shape, datatype))
        inputs[-1].set_data_from_numpy(tensor)
    try:
        return client.infer(model, inputs, client_timeout=_TIMEOUT_S)
    except InferenceServerException as exc:
        if exc.status() == "StatusCode.CANCELLED":
            load.dropped[name] += 1  # what gRPC's core says of a call that a stopping server had not taken yet
        elif exc.status() != "StatusCode.UNAVAILABLE":
            load.wrong.append(f"{name}: {exc}")
        else:
            load.refused[name] += 1
        load.stopped.wait(0.01)
        return None
