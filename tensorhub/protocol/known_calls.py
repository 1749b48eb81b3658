"""HTTP infer calls that differ from an earlier one only in their tensors: translated without a parser. Pure.

A client that uses the binary extension sends the same JSON part again and again, and gets the same one back. So what it
says is remembered, with the bytes of the JSON part as the key: for a request the protobuf message around the tensors,
for a reply the JSON around them (see `layouts`). Of a request whose tensors are in the JSON, the key is the text
without their numbers:

    {"inputs":[{"name":"A","datatype":"INT32","shape":[2],"data": [1, 2]}]}
    |----------------------------- key ------------------------|      |---|

The tables are bounded and hold nothing of a tensor. Some clients never send the same key twice, because another number
is in it each time, such as a sequence's; so a request is remembered when its key has come for the second time.
"""

import re
from array import array
from collections.abc import Hashable
from typing import Any, NamedTuple

import orjson

from tensorhub.errors import TensorhubError
from tensorhub.protocol import json_tensors, json_text, messages
from tensorhub.protocol.grpc_frames import RAW_INPUT_CONTENTS, RAW_OUTPUT_CONTENTS, varint
from tensorhub.protocol.http_infer import EncodedReply, HttpInfer, Limits, ResponsePlan
from tensorhub.protocol.json_reply import describe, encode_infer, is_handed_out
from tensorhub.protocol.layouts import LIMIT, MAX_PREFIX_SIZE, LayoutTable

_TAG = bytes((RAW_INPUT_CONTENTS << 3 | 2,))

_HOLE = b"\0"
"""Stands in a document where a tensor's JSON goes; JSON text never has it."""


_DATA = re.compile(rb'"data"\s*:\s*\[([^][{}"]*)\]')
"""A flat array of numbers or booleans under the key `data`; the numbers are the group."""

_MAX_TEXT_SIZE = 8192
"""Bytes of a request in JSON that is looked up. Of a longer one, parsing is not what costs most."""

_SEEN_LIMIT = 4096
"""Keys that have come once, of which only a hash is kept."""

_INTEGER_CODES = {
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
}


class _KnownInput(NamedTuple):
    """An input whose numbers are in the text. code: of its type in `array`, or "" for other types than integers."""

    name: str
    datatype: str
    shape: list[int]
    size: int
    head: bytes
    code: str


class _KnownText(NamedTuple):
    """Attributes: prefix: the message up to its raw contents."""

    prefix: bytes
    inputs: tuple[_KnownInput, ...]
    plan: ResponsePlan


class _KnownRequest(NamedTuple):
    """Attributes: prefix: the message up to its raw contents. contents: for each of them tag and length, and size."""

    prefix: bytes
    contents: tuple[tuple[bytes, int], ...]
    binary_size: int
    plan: ResponsePlan


class KnownRequests:
    """Requests whose tensors are all in the binary part, or all numbers in the text."""

    __slots__ = ("_known", "_limits", "_seen", "_texts")

    def __init__(self, limits: Limits) -> None:
        """Args: limits: all requests that come here are held to."""
        self._limits = limits
        self._known: dict[tuple[str, bytes], _KnownRequest] = {}
        self._texts: dict[tuple[str, bytes], _KnownText] = {}
        self._seen: set[int] = set()

    def find(self, model: str, body: bytes, json_size: int) -> tuple[bytes, ResponsePlan] | None:
        """Return the serialised `inference.ModelInferRequest`, and how to encode the answer; None: parse it."""
        if json_size == len(body):
            return self._find_text(model, body)
        known = self._known.get((model, body[:json_size]))
        if known is None or len(body) - json_size != known.binary_size:
            return None
        pieces = [known.prefix]
        start = json_size
        for head, size in known.contents:
            pieces += (head, body[start : start + size])
            start += size
        return b"".join(pieces), known.plan

    def learn(self, model: str, body: bytes, json_size: int, decoded: HttpInfer) -> None:
        """Remember a request that has been parsed: if it is of this kind, has no id, which would be another soon, and
        its key has come before.
        """
        request = decoded.request
        if decoded.large or decoded.ranges or request.id:
            return
        if json_size == len(body):
            self._learn_text(model, body, decoded)
            return
        sizes = [len(data) for data in request.raw_input_contents]
        if json_size > MAX_PREFIX_SIZE or sum(sizes) != len(body) - json_size:
            return
        key = (model, body[:json_size])
        if not self._has_come(key):
            return
        if len(self._known) >= LIMIT:
            self._known.clear()
        self._known[key] = _KnownRequest(
            _prefix(request), tuple((_TAG + varint(size), size) for size in sizes), sum(sizes), decoded.plan
        )

    def _has_come(self, key: tuple[str, bytes]) -> bool:
        """Whether this is the second time; of two keys with one hash the second comes too early, and that is all."""
        mark = hash(key)
        if mark in self._seen:
            self._seen.remove(mark)
            return True
        if len(self._seen) >= _SEEN_LIMIT:
            self._seen.clear()
        self._seen.add(mark)
        return False

    def _find_text(self, model: str, body: bytes) -> tuple[bytes, ResponsePlan] | None:
        if len(body) > _MAX_TEXT_SIZE:
            return None
        parts = _DATA.split(body)
        known = self._texts.get((model, _HOLE.join(parts[::2])))
        if known is None:
            return None
        pieces = [known.prefix]
        try:
            for wanted, numbers in zip(known.inputs, parts[1::2], strict=True):
                pieces += (wanted.head, self._pack(wanted, json_text.parse(b"[%b]" % numbers)))
        except TensorhubError:
            return None  # the parser says what is wrong, in its order
        return b"".join(pieces), known.plan

    def _pack(self, wanted: _KnownInput, numbers: Any) -> bytes:
        if wanted.code and set(map(type, numbers)) == {int}:
            try:
                packed = array(wanted.code, numbers).tobytes()
            except OverflowError:
                packed = b""
            if len(packed) == wanted.size:
                return packed
        return json_tensors.from_json(wanted.name, wanted.datatype, wanted.shape, numbers, self._limits.max_input_size)

    def _learn_text(self, model: str, body: bytes, decoded: HttpInfer) -> None:
        """Remember a request whose inputs are all flat arrays of numbers in its text, in their order.

        Without escapes every key `data` is found, and if there are as many as inputs, each is that of its input.
        """
        request = decoded.request
        contents = request.raw_input_contents
        if len(body) > _MAX_TEXT_SIZE or b"\\" in body or _HOLE in body or len(contents) != len(request.inputs):
            return
        parts = _DATA.split(body)
        key = (model, _HOLE.join(parts[::2]))
        if len(parts) // 2 != len(contents) or not self._has_come(key):
            return
        inputs = tuple(
            _KnownInput(
                tensor.name,
                tensor.datatype,
                list(tensor.shape),
                len(data),
                _TAG + varint(len(data)),
                _INTEGER_CODES.get(tensor.datatype, ""),
            )
            for tensor, data in zip(request.inputs, contents, strict=True)
        )
        for wanted, numbers, data in zip(inputs, parts[1::2], contents, strict=True):
            if self._pack(wanted, json_text.parse(b"[%b]" % numbers)) != data:
                return
        if len(self._texts) >= LIMIT:
            self._texts.clear()
        self._texts[key] = _KnownText(_prefix(request), inputs, decoded.plan)


def _prefix(request: Any) -> bytes:
    """Return a serialised request up to its raw contents."""
    head = messages.ModelInferRequest()
    head.CopyFrom(request)
    head.ClearField("raw_input_contents")
    return bytes(head.SerializeToString())


class _Output(NamedTuple):
    """An output whose data goes into the JSON part. code: as of an input."""

    position: int
    name: str
    datatype: str
    shape: list[int]
    code: str


class _KnownReply(NamedTuple):
    """Attributes: texts: of the JSON part, one more than `outputs`. binary: positions of the outputs that follow it."""

    texts: list[bytes]
    outputs: tuple[_Output, ...]
    binary: tuple[int, ...]


class KnownReplies:
    """Replies of workers that hold their tensors."""

    __slots__ = ("_layouts",)

    def __init__(self) -> None:
        self._layouts: LayoutTable[dict[Hashable, _KnownReply]] = LayoutTable(RAW_OUTPUT_CONTENTS)

    def encode(self, plan: ResponsePlan, response: bytes) -> EncodedReply:
        """Encode a serialised `inference.ModelInferResponse`; see `json_reply.encode_infer`."""
        layout = self._layouts.find(response)
        key = (plan.binary, *plan.listed.items())
        if layout is None:
            return self._learn(key, plan, response)
        known = layout.meaning.get(key)
        if known is None:
            return self._learn(key, plan, response)
        json_part = known.texts[0]
        view = memoryview(response)
        spans = layout.spans
        if known.outputs:
            pieces = [json_part]
            for (position, name, datatype, shape, code), text in zip(known.outputs, known.texts[1:], strict=True):
                data: Any = view[slice(*spans[position])]
                # The size of an integer tensor has been found right when the reply was learned.
                data = data.cast(code).tolist() if code else json_tensors.to_json(name, datatype, shape, data)
                pieces += (orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY), text)
            json_part = b"".join(pieces)
        if not known.binary:
            return EncodedReply(None, [json_part])
        return EncodedReply(len(json_part), [json_part, *[view[slice(*spans[position])] for position in known.binary]])

    def _learn(self, key: Hashable, plan: ResponsePlan, response: bytes) -> EncodedReply:
        encoded = encode_infer(plan, response, None)
        message = messages.ModelInferResponse.FromString(response)
        # An id and a region that was made for the output are of this reply alone.
        if message.id or any(is_handed_out(output) for output in message.outputs):
            return encoded
        layout = self._layouts.find(response)
        meaning = layout.meaning if layout is not None and len(layout.meaning) < LIMIT else {}
        self._layouts.learn(
            response, [len(data) for data in message.raw_output_contents], {**meaning, key: _known(plan, message)}
        )
        return encoded


def _known(plan: ResponsePlan, message: Any) -> _KnownReply:
    document = describe(message)
    outputs = []
    binary = []
    for position, (entry, tensor) in enumerate(zip(document["outputs"], message.outputs, strict=True)):
        size = len(message.raw_output_contents[position])
        if "shared_memory_region" in tensor.parameters:
            continue
        if plan.wants_binary(tensor.name):
            entry["parameters"] = {"binary_data_size": size}
            if size:
                binary.append(position)
        else:
            entry["data"] = orjson.Fragment(_HOLE)
            code = _INTEGER_CODES.get(tensor.datatype, "")
            outputs.append(_Output(position, tensor.name, tensor.datatype, entry["shape"], code))
    return _KnownReply(orjson.dumps(document).split(_HOLE), tuple(outputs), tuple(binary))
