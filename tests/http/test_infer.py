"""The infer call through a real server."""

import gzip
import json
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.http as triton

from tests.http.server import Server
from tests.waiting import wait_until

ECHO = "/v2/models/echo/infer"
LENGTH = "Inference-Header-Content-Length"


def binary_body(values: bytes, *, count: int | None = None, binary_output: bool = True) -> tuple[bytes, dict[str, str]]:
    """An echo request with one FP32 input in the binary part."""
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "IN",
                    "shape": [len(values) // 4 if count is None else count],
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": len(values)},
                }
            ],
            "parameters": {"binary_data_output": binary_output},
        }
    ).encode()
    return head + values, {LENGTH: str(len(head))}


@pytest.mark.parametrize("binary", [True, False])
def test_triton_client(server: Server, binary: bool) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    left = np.arange(16, dtype=np.int32)[None]
    right = np.full((1, 16), 2, np.int32)
    inputs = [triton.InferInput(name, [1, 16], "INT32") for name in ("INPUT0", "INPUT1")]
    inputs[0].set_data_from_numpy(left, binary_data=binary)
    inputs[1].set_data_from_numpy(right, binary_data=binary)
    outputs = [triton.InferRequestedOutput("OUTPUT1", binary_data=binary)]
    result = client.infer("add_sub", inputs, outputs=outputs, request_id="7")
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), left - right)
    assert result.as_numpy("OUTPUT0") is None
    assert result.get_response()["id"] == "7"
    client.close()


@pytest.mark.parametrize("size", [0, 4, 65_532, 65_536, 300_000, 5_000_000])
def test_binary_bodies_of_all_sizes(server: Server, size: int) -> None:
    values = bytes(range(256)) * (size // 256) + bytes(size % 256)
    body, headers = binary_body(values)
    answer = server.ask("POST", ECHO, body, headers)
    assert answer.status == 200, answer.body
    if size == 0:
        assert answer.headers["content-type"] == "application/json"
        assert LENGTH.lower() not in answer.headers
        return
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.body[int(answer.headers[LENGTH.lower()]) :] == values
    account = server.account()
    assert (account["reservations"], account["held"], account["unreleased"]) == (0, 0, 0)


def in_chunks(body: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        chunk = body[start : start + size]
        yield b"%x\r\n%b\r\n" % (len(chunk), chunk)
    yield b"0\r\n\r\n"


@pytest.mark.parametrize(("size", "chunk_size"), [(64, 7), (64, 1000), (200_000, 1000), (3_000_000, 70_001)])
def test_chunked_bodies(server: Server, size: int, chunk_size: int) -> None:
    values = bytes(range(250)) * (size // 250) + bytes(size % 250)
    body, headers = binary_body(values)
    answer = server.ask("POST", ECHO, in_chunks(body, chunk_size), {**headers, "Transfer-Encoding": "chunked"})
    assert answer.status == 200, answer.body
    assert answer.body.endswith(values)
    assert server.account()["reservations"] == 0


def test_a_chunked_body_of_json_alone(server: Server) -> None:
    data = list(range(30_000))
    body = json.dumps({"inputs": [{"name": "IN", "shape": [30_000], "datatype": "FP32", "data": data}]}).encode()
    answer = server.ask("POST", ECHO, in_chunks(body, 5_000), {"Transfer-Encoding": "chunked"})
    assert answer.json()["outputs"][0]["data"] == data


def test_a_raw_body(server: Server) -> None:
    values = struct.pack("<3f", 1, 2, 3)
    answer = server.ask("POST", ECHO, values, {LENGTH: "0"})
    length = int(answer.headers[LENGTH.lower()])
    assert json.loads(answer.body[:length])["outputs"][0]["shape"] == [3]
    assert answer.body[length:] == values


def test_no_body_at_all_is_a_raw_request(server: Server) -> None:
    assert server.ask("POST", ECHO).json()["outputs"][0]["parameters"] == {"binary_data_size": 0}


@pytest.mark.parametrize(
    ("headers", "status", "text"),
    [
        ({LENGTH: "x"}, 400, "Unable to parse Inference-Header-Content-Length, got: x"),
        ({LENGTH: "-1"}, 400, "inference header size should be in range (0, 15), got: -1"),
        ({LENGTH: "16"}, 400, "inference header size should be in range (0, 15), got: 16"),
        ({"Content-Encoding": "br"}, 501, "Unsupported compression type"),
        (
            {"Content-Encoding": "gzip"},
            400,
            "the request body is not the gzip or zlib data that Content-Encoding promises",
        ),
    ],
)
def test_header_errors(server: Server, headers: dict[str, str], status: int, text: str) -> None:
    answer = server.ask("POST", ECHO, b'{"inputs":[   ]', headers)
    assert (answer.status, answer.json()) == (status, {"error": text})
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", ECHO, 405, "Method Not Allowed"),
        ("PUT", ECHO, 405, "Method Not Allowed"),
        ("POST", "/v2/models/nope/infer", 404, "Request for unknown model: 'nope' is not found"),
        ("POST", "/v2/models/ec%68o/infer", 404, "Request for unknown model: 'ec%68o' is not found"),
        ("POST", "/v2/models/echo/versions/2/infer", 404, "Request for unknown model: 'echo' version 2 is not found"),
        ("POST", "/v2/models/echo/versions/x/infer", 404, "Not Found"),
        (
            "POST",
            "/v2/models/loading/versions/2/infer",
            503,
            "Request for unknown model: 'loading' version 2 is not at ready state",
        ),
        ("POST", "/v2/models/failing/infer", 400, "the model says 'no'"),
        ("POST", "/v2/models/twice/infer", 500, "expected a single response, got 2"),
        ("POST", "/v2/models/nothing/infer", 500, "expected a single response, got 0"),
        (
            "POST",
            "/v2/models/decoupled/infer",
            501,
            "HTTP end point doesn't support models with decoupled transaction policy",
        ),
    ],
)
def test_errors_on_the_way_to_the_model(server: Server, method: str, path: str, status: int, text: str) -> None:
    answer = server.ask(method, path, b'{"inputs":[]}')
    assert (answer.status, answer.json()) == (status, {"error": text})


def test_the_connection_survives_an_error_with_a_large_body(server: Server) -> None:
    body, headers = binary_body(bytes(1_000_000))
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    tensor = triton.InferInput("IN", [250_000], "FP32").set_data_from_numpy(np.zeros(250_000, np.float32))
    for _ in range(2):
        with pytest.raises(triton.InferenceServerException, match="'nope' is not found"):
            client.infer("nope", [tensor])
        assert client.infer("echo", [tensor]).as_numpy("IN").nbytes == 1_000_000
    client.close()
    assert server.ask("POST", "/v2/models/nope/infer", body, headers).status == 404


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("gzip", zlib.compress)]
)
def test_compressed_requests(server: Server, encoding: str, pack: object) -> None:
    assert callable(pack)
    body, headers = binary_body(bytes(range(200)) * 1000)
    answer = server.ask("POST", ECHO, pack(body), {**headers, "Content-Encoding": encoding})
    assert answer.body.endswith(bytes(range(200)) * 1000)
    assert server.account()["reservations"] == 0


@pytest.mark.parametrize(
    ("accepted", "encoding"), [("gzip", "gzip"), ("deflate, gzip", "deflate"), ("br", None), ("gzip;q=0", None)]
)
def test_compressed_responses(server: Server, accepted: str, encoding: str | None) -> None:
    values = bytes(range(200)) * 3000
    body, headers = binary_body(values)
    answer = server.ask("POST", ECHO, body, {**headers, "Accept-Encoding": accepted})
    assert answer.headers.get("content-encoding") == encoding
    plain = answer.body if encoding is None else zlib.decompress(answer.body, zlib.MAX_WBITS | 32)
    assert plain[int(answer.headers[LENGTH.lower()]) :] == values


def test_an_error_is_not_compressed(server: Server) -> None:
    answer = server.ask("POST", "/v2/models/failing/infer", b'{"inputs":[]}', {"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers
    assert answer.status == 400


def test_a_client_that_goes_while_its_request_runs(server: Server) -> None:
    cancelled = server.account()["cancelled"]
    connections = [server.connect() for _ in range(3)]
    body, headers = binary_body(bytes(200_000))
    head = f"POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    head += f"{LENGTH}: {headers[LENGTH]}\r\n\r\n"
    for connection in connections:
        connection.sendall(head.encode() + body)
    wait_until(lambda: server.account()["in_flight"] == 3)
    for connection in connections:
        connection.close()
    wait_until(lambda: server.account()["cancelled"] == cancelled + 3)
    account = server.account()
    assert (account["in_flight"], account["reservations"]) == (0, 0)


def test_a_client_that_goes_while_it_sends(server: Server) -> None:
    requests = server.account()["requests"]
    connection = server.connect()
    connection.sendall(
        b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nInference-Header-Content-Length: 10\r\n\r\n"
        % ECHO.encode()
        + bytes(300_000)
    )
    wait_until(lambda: server.account()["reservations"] == 1)
    connection.close()
    wait_until(lambda: server.account()["reservations"] == 0)
    assert server.account()["requests"] >= requests


def test_a_body_that_is_too_long_for_an_int32(server: Server) -> None:
    connection = server.connect()
    connection.sendall(
        b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 2147483648\r\nExpect: 100-continue\r\n\r\n" % ECHO.encode()
    )
    with connection, connection.makefile("rb") as stream:
        head, _, body = stream.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    text = "Unable to parse Content-Length, value is out of range [ -2147483648, 2147483647 ], got: 2147483648"
    assert json.loads(body) == {"error": text}


def test_many_connections_at_once(server: Server) -> None:
    connections = [server.connect() for _ in range(50)]
    for index, connection in enumerate(connections):
        tensor = {"name": "IN", "shape": [1], "datatype": "INT64", "data": [index]}
        text = json.dumps({"id": str(index), "inputs": [tensor]})
        head = f"POST {ECHO} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(text)}\r\n\r\n"
        connection.sendall((head + text).encode())
    for index, connection in enumerate(connections):
        with connection, connection.makefile("rb") as stream:
            document = json.loads(stream.read().partition(b"\r\n\r\n")[2])
        assert (document["id"], document["outputs"][0]["data"]) == (str(index), [index])


def test_a_client_that_asks_before_it_sends(server: Server) -> None:
    body, headers = binary_body(bytes(200_000))
    head = f"POST {ECHO} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\n"
    head += f"Content-Length: {len(body)}\r\n{LENGTH}: {headers[LENGTH]}\r\n\r\n"
    connection = server.connect()
    connection.sendall(head.encode())
    with connection, connection.makefile("rb") as stream:
        assert stream.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert stream.readline() == b"\r\n"
        connection.sendall(body)
        assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
        assert stream.read().endswith(bytes(200_000))
