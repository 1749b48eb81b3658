"""--http-max-input-size, before and after decompression, and bodies that are much smaller than what they hold."""

import gzip
import json
import zlib

import pytest

from tests.http.asgi_client import Answer, ask
from tests.http.fake_gateway import FakeGateway, snapshot
from tests.http.test_control import app_on

_LIMIT = 4096
_TEXT = (
    f"Decompressed data size exceeds the maximum allowed value of {_LIMIT} bytes. Use --http-max-input-size to "
    "increase the limit."
)


def _body(byte_size: int) -> bytes:
    """A JSON request of this length."""
    document = {"inputs": [{"name": "A", "datatype": "INT32", "shape": [1], "data": [1]}], "x": ""}
    document["x"] = "x" * (byte_size - len(json.dumps(document)))
    return json.dumps(document).encode()


def _post(body: bytes, encoding: str, path: str = "/v2/models/echo/infer") -> Answer:
    gateway = FakeGateway(snapshot(http_max_input_size=str(_LIMIT)))
    answer = ask(app_on(gateway), "POST", path, body, [("Content-Encoding", encoding)])
    assert gateway.held == 0
    return answer


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_the_size_when_decompressed_counts(encoding: str, compress: "type[bytes]") -> None:
    assert _post(compress(_body(_LIMIT)), encoding).status == 200  # type: ignore[arg-type]
    answer = _post(compress(_body(_LIMIT + 1)), encoding)  # type: ignore[arg-type]
    assert (answer.status, answer.json()) == (400, {"error": _TEXT})


def test_a_small_body_that_holds_much_is_not_unpacked() -> None:
    encoder = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    piece = bytes(1 << 20)
    bomb = b"".join([*(encoder.compress(piece) for _ in range(100)), encoder.flush()])
    answer = _post(bomb, "gzip")
    assert (answer.status, answer.json()) == (400, {"error": _TEXT})


def test_a_body_that_is_too_long_before_it_is_decompressed() -> None:
    stored = gzip.compress(b"x" * 1_000_000, 0)
    answer = _post(stored, "gzip")
    assert (answer.status, answer.json()) == (400, {"error": _TEXT})


@pytest.mark.parametrize("path", ["/v2/models/echo/infer", "/v2/models/echo/generate"])
def test_the_number_of_chunks_counts_and_that_of_packets_does_not(path: str) -> None:
    body = b'{"inputs":[{"name":"IN","datatype":"INT32","shape":[1],"data":[1]}]}'.ljust(66_000)
    pieces = [body[index : index + 1] for index in range(len(body))]
    app = app_on(FakeGateway(snapshot()))
    chunked = ask(app, "POST", path, pieces)
    assert chunked.status == 400
    assert "Chunked request body exceeds maximum" in chunked.json()["error"]
    announced = ask(app, "POST", path, pieces, [("Content-Length", str(len(body)))])
    assert announced == ask(app, "POST", path, body)


@pytest.mark.parametrize(
    "path",
    ["/v2/repository/index", "/v2/repository/models/m/load", "/v2/systemsharedmemory/region/r/register"],
)
def test_bodies_of_other_operations_have_the_limit_too(path: str) -> None:
    answer = _post(b" " * (_LIMIT + 1), "identity", path)
    assert answer.status == 400
    assert f"request JSON size of {_LIMIT + 1} bytes exceeds" in answer.json()["error"]


@pytest.mark.parametrize("depth", [101, 5000, 50_000])
@pytest.mark.parametrize("form", ["[{}]", '{{"a":{}}}', '{{"inputs":{}}}'])
def test_deep_json_is_refused_everywhere(depth: int, form: str) -> None:
    before, after = form.format("|").split("|")
    body = before.encode() * depth + b"1" + after.encode() * depth
    app = app_on(FakeGateway(snapshot()))
    for path in ("/v2/models/echo/infer", "/v2/models/echo/generate", "/v2/repository/index"):
        assert ask(app, "POST", path, body).status in (200, 400, 500)
    assert ask(app, "GET", "/v2/health/live").status == 200
