"""HTTP infer calls that differ from an earlier one only in their tensors: translated without a parser. Pure.

A client that uses the binary extension sends the same JSON part again and again, and gets the same one back. So what it
says is remembered, with the bytes of the JSON part as the key: for a request the protobuf message around the tensors,
for a reply the JSON around them (see `layouts`). Both tables are bounded and hold nothing of a tensor.
"""

from collections.abc import Hashable
from typing import Any, NamedTuple

import orjson

from tensorhub.protocol import json_tensors, messages, v2_json
from tensorhub.protocol.grpc_frames import RAW_INPUT_CONTENTS, RAW_OUTPUT_CONTENTS, varint
from tensorhub.protocol.layouts import LIMIT, MAX_PREFIX_SIZE, LayoutTable
from tensorhub.protocol.v2_json import EncodedReply, HttpInfer, ResponsePlan

_TAG = bytes((RAW_INPUT_CONTENTS << 3 | 2,))

_HOLE = b"\0"
"""Stands in a document where a tensor's JSON goes; JSON text never has it."""


class _KnownRequest(NamedTuple):
    """Attributes: prefix: the message up to its raw contents. contents: for each of them tag and length, and size."""

    prefix: bytes
    contents: tuple[tuple[bytes, int], ...]
    binary_size: int
    plan: ResponsePlan


class KnownRequests:
    """Requests whose tensors are all in the binary part."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[str, bytes], _KnownRequest] = {}

    def find(self, model: str, body: bytes, json_size: int) -> tuple[bytes, ResponsePlan] | None:
        """Return the serialised `inference.ModelInferRequest`, and how to encode the answer; None: parse it."""
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
        """Remember a request that has been parsed, if it is of this kind and has no id, which would be another soon."""
        request = decoded.request
        sizes = [len(data) for data in request.raw_input_contents]
        if (
            decoded.large
            or decoded.ranges
            or request.id
            or json_size > MAX_PREFIX_SIZE
            or not 0 < sum(sizes) == len(body) - json_size
        ):
            return
        head = messages.ModelInferRequest()
        head.CopyFrom(request)
        head.ClearField("raw_input_contents")
        if len(self._known) >= LIMIT:
            self._known.clear()
        self._known[model, body[:json_size]] = _KnownRequest(
            head.SerializeToString(), tuple((_TAG + varint(size), size) for size in sizes), sum(sizes), decoded.plan
        )


class _Output(NamedTuple):
    """An output whose data goes into the JSON part."""

    position: int
    name: str
    datatype: str
    shape: list[int]


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
        """Encode a serialised `inference.ModelInferResponse`; see `v2_json.encode_infer`."""
        layout = self._layouts.find(response)
        key = (plan.binary, *plan.listed.items())
        if layout is None:
            return self._learn(key, plan, response)
        known = layout.meaning.get(key)
        if known is None:
            return self._learn(key, plan, response)
        json_part = known.texts[0]
        if known.outputs:
            pieces = [json_part]
            for (position, name, datatype, shape), text in zip(known.outputs, known.texts[1:], strict=True):
                start, end = layout.spans[position]
                data = json_tensors.to_json(name, datatype, shape, response[start:end])
                pieces += (orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY), text)
            json_part = b"".join(pieces)
        if not known.binary:
            return EncodedReply(None, [json_part])
        view = memoryview(response)
        spans = layout.spans
        return EncodedReply(len(json_part), [json_part, *[view[slice(*spans[position])] for position in known.binary]])

    def _learn(self, key: Hashable, plan: ResponsePlan, response: bytes) -> EncodedReply:
        encoded = v2_json.encode_infer(plan, response, None)
        message = messages.ModelInferResponse.FromString(response)
        if message.id:
            return encoded
        layout = self._layouts.find(response)
        meaning = layout.meaning if layout is not None and len(layout.meaning) < LIMIT else {}
        self._layouts.learn(
            response, [len(data) for data in message.raw_output_contents], {**meaning, key: _known(plan, message)}
        )
        return encoded


def _known(plan: ResponsePlan, message: Any) -> _KnownReply:
    document = v2_json.describe(message)
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
            outputs.append(_Output(position, tensor.name, tensor.datatype, entry["shape"]))
    return _KnownReply(orjson.dumps(document).split(_HOLE), tuple(outputs), tuple(binary))
