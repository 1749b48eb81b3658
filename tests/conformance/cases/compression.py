"""Compressed bodies, both ways: Content-Encoding of requests, Accept-Encoding of answers."""

from __future__ import annotations

import struct
import zlib

from ..messages import compact, output, tensor
from ..steps import Case, Http

_PATH = "/v2/models/echo/infer"
_BODY = compact({"inputs": [tensor("INPUT0", "INT32", [1], [5])], "outputs": [output("OTHER")]})
_BINARY = compact(
    {
        "inputs": [tensor("INPUT0", "INT32", [1], binary_data_size=4)],
        "outputs": [output("OTHER", binary_data=True)],
    }
)
_DATA = b"\x05\x00\x00\x00"


def _stored(data: bytes) -> bytes:
    """A deflate stream (RFC 1951) with one block that is not compressed: the same bytes with any library."""
    size = len(data)
    return b"\x01" + struct.pack("<HH", size, size ^ 0xFFFF) + data


def _gzip(data: bytes, stream: bytes | None = None) -> bytes:
    """The gzip form (RFC 1952) of `data`; `stream` is its deflate stream, if it is not to be `_stored`."""
    head = bytes.fromhex("1f8b08000000000000ff")
    return head + (stream or _stored(data)) + struct.pack("<II", zlib.crc32(data), len(data))


def _zlib(data: bytes) -> bytes:
    """The zlib form (RFC 1950) of `data`, which HTTP calls deflate."""
    return b"\x78\x01" + _stored(data) + struct.pack(">I", zlib.adler32(data))


_GZIP = _gzip(_BODY)
_ZLIB = _zlib(_BODY)
_HUFFMAN = bytes.fromhex(
    "ab56cacc2b282d2956b28aae56ca4bcc4d55b252f2f40b080d3150d2514a492c492ca92c808885181b01858a331241fc68c3"
    "58883490691a5b0be4e49796a09be31fe2e11aa4541b5b0b00"
)
"""The deflate stream of _BODY with codes."""


def _request(name: str, encoding: str, body: bytes, *headers: tuple[str, str]) -> Case:
    step = Http("POST", _PATH, body, (("Content-Encoding", encoding), *headers))
    return Case(f"compressed-{name}", (step,), server="edges")


def _answer(name: str, accepted: str, body: bytes = _BODY, *headers: tuple[str, str], path: str = _PATH) -> Case:
    step = Http("POST", path, body, (("Accept-Encoding", accepted), *headers))
    return Case(f"accept-{name}", (step,), server="edges")


def _length(value: object) -> tuple[str, str]:
    return ("Inference-Header-Content-Length", str(value))


CASES = (
    _request("gzip", "gzip", _GZIP),
    _request("deflate", "deflate", _ZLIB),
    _request("gzip-named-deflate", "deflate", _GZIP),
    _request("zlib-named-gzip", "gzip", _ZLIB),
    _request("raw-deflate", "deflate", _stored(_BODY)),
    _request("identity", "identity", _BODY),
    _request("no-name", "", _BODY),
    _request("br", "br", _BODY),
    _request("x-gzip", "x-gzip", _GZIP),
    _request("upper-case", "GZIP", _GZIP),
    _request("two-names", "gzip, deflate", _GZIP),
    _request("space-before", " gzip", _GZIP),
    _request("gzip-not-compressed", "gzip", _BODY),
    _request("gzip-empty", "gzip", b""),
    _request("gzip-of-nothing", "gzip", _gzip(b"")),
    _request("gzip-truncated", "gzip", _GZIP[:-12]),
    _request("gzip-trailer-missing", "gzip", _GZIP[:-8]),
    _request("gzip-bad-checksum", "gzip", _GZIP[:-8] + b"\0\0\0\0" + _GZIP[-4:]),
    _request("gzip-and-more", "gzip", _GZIP + b"more"),
    _request("gzip-two-members", "gzip", _gzip(_BODY[:20]) + _gzip(_BODY[20:])),
    _request("gzip-of-not-json", "gzip", _gzip(b"not json")),
    _request("gzip-with-codes", "gzip", _gzip(_BODY, _HUFFMAN)),
    _request("binary", "gzip", _gzip(_BINARY + _DATA), _length(len(_BINARY))),
    _request("binary-deflate", "deflate", _zlib(_BINARY + _DATA), _length(len(_BINARY))),
    _request("binary-length-of-compressed", "gzip", _gzip(_BINARY + _DATA), _length(5)),
    _request("binary-length-too-long", "gzip", _gzip(_BINARY), _length(len(_BINARY) + 1)),
    _request("binary-too-few", "gzip", _gzip(_BINARY + _DATA[:3]), _length(len(_BINARY))),
    _request("raw", "gzip", _gzip(_DATA), _length(0)),
    _request("both-ways", "gzip", _GZIP, ("Accept-Encoding", "deflate")),
    _request("br-and-accept", "br", _BODY, ("Accept-Encoding", "gzip")),
    Case(
        "compressed-index-is-not",
        (
            Http(
                "POST",
                "/v2/repository/index",
                b'{"ready":true}',
                (("Content-Encoding", "gzip"),),
            ),
        ),
        server="edges",
    ),
    Case(
        "compressed-unknown-model",
        (Http("POST", "/v2/models/nobody/infer", _GZIP, (("Content-Encoding", "br"),)),),
        server="edges",
    ),
    _answer("gzip", "gzip"),
    _answer("deflate", "deflate"),
    _answer("identity", "identity"),
    _answer("nothing", ""),
    _answer("any", "*"),
    _answer("br", "br"),
    _answer("upper-case", "GZIP"),
    _answer("gzip-deflate", "gzip, deflate"),
    _answer("deflate-gzip", "deflate, gzip"),
    _answer("no-space", "deflate,gzip"),
    _answer("br-gzip", "br, gzip"),
    _answer("identity-gzip", "identity, gzip"),
    _answer("weights", "gzip;q=0.5, deflate;q=0.8"),
    _answer("weights-first", "gzip;q=0.9, deflate;q=0.8"),
    _answer("weights-identity", "identity;q=1, gzip;q=0.9"),
    _answer("weight-zero", "gzip;q=0"),
    _answer("weights-zero", "gzip;q=0, deflate;q=0"),
    _answer("weight-space", "gzip; q=0.5, deflate;q=0.4"),
    _answer("weight-space-after", "gzip;q= 0.5"),
    _answer("weight-word", "gzip;q=x, deflate"),
    _answer("weight-empty", "gzip;q=, deflate;q=0.5"),
    _answer("weight-negative", "gzip;q=-1"),
    _answer("weight-above-one", "gzip;q=2, deflate;q=1"),
    _answer("weight-trailing", "gzip;q=0.5x, deflate;q=0.4"),
    _answer("commas", ",,gzip,,"),
    _answer("spaces", "  gzip  "),
    _answer("with-binary", "gzip", _BINARY + _DATA, _length(len(_BINARY))),
    _answer("with-binary-deflate", "deflate", _BINARY + _DATA, _length(len(_BINARY))),
    _answer("with-raw", "gzip", _DATA, _length(0)),
    _answer("with-error", "gzip", b"not json"),
    _answer("with-unknown-model", "gzip", path="/v2/models/nobody/infer"),
    _answer(
        "strings",
        "gzip",
        compact(
            {
                "inputs": [tensor("INPUT0", "INT32", [1], [5])],
                "outputs": [output("REPORT", binary_data=True), output("OTHER")],
            }
        ),
    ),
    Case(
        "accept-metadata",
        (Http("GET", "/v2/models/echo", headers=(("Accept-Encoding", "gzip"),)),),
        server="edges",
    ),
    Case(
        "accept-index",
        (Http("POST", "/v2/repository/index", headers=(("Accept-Encoding", "gzip"),)),),
        server="edges",
    ),
)
