"""Wrong and unusual gRPC infer requests, and the configs of the models that they are for.

What Triton answers to each stands in `decode_recorded.json`; both are read by test_decode. To record again, serve the
configs of MODELS with any backend and send the requests.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import text_format

from tensorhub.protocol import messages

_IO = 'input {{ name: "{i}" data_type: TYPE_{t} dims: {d} }} output {{ name: "OUTPUT0" data_type: TYPE_{t} dims: {d} }}'

MODELS: Mapping[str, str] = {
    "add_sub": """
        max_batch_size: 8
        input { name: "INPUT0" data_type: TYPE_FP32 dims: 4 } input { name: "INPUT1" data_type: TYPE_FP32 dims: 4 }
        output { name: "OUTPUT0" data_type: TYPE_FP32 dims: 4 } output { name: "OUTPUT1" data_type: TYPE_FP32 dims: 4 }
    """,
    "optional": """
        input { name: "A" data_type: TYPE_INT32 dims: 2 }
        input { name: "B" data_type: TYPE_INT32 dims: 2 optional: true }
        input { name: "C" data_type: TYPE_STRING dims: 1 optional: true }
        output { name: "SUM" data_type: TYPE_INT32 dims: 2 } output { name: "GIVEN" data_type: TYPE_STRING dims: -1 }
    """,
    "all_optional": """
        input { name: "A" data_type: TYPE_INT32 dims: 2 optional: true }
        input { name: "B" data_type: TYPE_INT32 dims: 2 optional: true }
        output { name: "COUNT" data_type: TYPE_INT32 dims: 1 }
    """,
    "reshape": """
        input { name: "INPUT0" data_type: TYPE_INT32 dims: 4 reshape { shape: [ 2, 2 ] } }
        output { name: "OUTPUT0" data_type: TYPE_INT32 dims: 4 reshape { shape: [ 2, 2 ] } }
        output { name: "SEEN" data_type: TYPE_STRING dims: 1 }
    """,
    "identity_bytes": _IO.format(i="INPUT0", t="STRING", d="-1"),
    "identity_bytes_batch": "max_batch_size: 4 " + _IO.format(i="INPUT0", t="STRING", d="1"),
    "identity_batch": "max_batch_size: 4 " + _IO.format(i="INPUT0", t="FP32", d="[ -1, 2 ]"),
    "identity_variable": _IO.format(i="INPUT0", t="INT32", d="[ -1, -1 ]"),
    "identity_fp16": _IO.format(i="INPUT0", t="FP16", d="-1"),
    "identity_int8": _IO.format(i="INPUT0", t="INT8", d="-1"),
    "identity_bool": _IO.format(i="INPUT0", t="BOOL", d="-1"),
    "identity_uint64": _IO.format(i="INPUT0", t="UINT64", d="-1"),
}


def config(model: str) -> Any:
    """Return the `inference.ModelConfig` of one of MODELS."""
    result = messages.ModelConfig()
    text_format.Parse(f'name: "{model}" {MODELS[model]}', result)
    return result


def set_parameters(into: Any, parameters: Mapping[str, Any]) -> None:
    """Set gRPC parameters: a (field, value) pair says which field of the oneof; a bare value means the obvious one."""
    for name, value in parameters.items():
        match value:
            case (field, content):
                setattr(into[name], field, content)
            case bool():
                into[name].bool_param = value
            case int():
                into[name].int64_param = value
            case float():
                into[name].double_param = value
            case str():
                into[name].string_param = value
            case None:
                into[name].SetInParent()


def tensor(
    name: str = "INPUT0",
    datatype: str = "FP32",
    shape: Sequence[int] = (1, 4),
    parameters: Mapping[str, Any] | None = None,
    contents: Mapping[str, Sequence[Any]] | None = None,
) -> dict[str, Any]:
    """Describe an input."""
    return {
        "name": name,
        "datatype": datatype,
        "shape": shape,
        "parameters": parameters or {},
        "contents": contents,
    }


def request(
    model: str,
    inputs: Sequence[dict[str, Any]] = (),
    raw: Sequence[bytes] = (),
    outputs: Sequence[str | tuple[str, Mapping[str, Any]]] = (),
    parameters: Mapping[str, Any] | None = None,
    request_id: str = "",
) -> Any:
    """Build an `inference.ModelInferRequest`."""
    result = messages.ModelInferRequest(model_name=model, id=request_id, raw_input_contents=raw)
    set_parameters(result.parameters, parameters or {})
    for item in inputs:
        added = result.inputs.add(name=item["name"], datatype=item["datatype"], shape=item["shape"])
        set_parameters(added.parameters, item["parameters"])
        if item["contents"] is not None:
            added.contents.SetInParent()
            for field, values in item["contents"].items():
                getattr(added.contents, field).extend(values)
    for output in outputs:
        name, settings = (output, {}) if isinstance(output, str) else output
        set_parameters(result.outputs.add(name=name).parameters, settings)
    return result


def _string(*elements: bytes) -> bytes:
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


_PAIR = (tensor("INPUT0"), tensor("INPUT1"))
_RAW = (bytes(16), bytes(16))
_A = tensor("A", "INT32", [2])
_INT4 = tensor("INPUT0", "INT32", [4])
_REGION = {"shared_memory_region": "nowhere", "shared_memory_byte_size": 16}


def _batched(left: Sequence[int], right: Sequence[int]) -> Any:
    sizes = [4 * max(0, _product(shape)) for shape in (left, right)]
    return request(
        "add_sub", [tensor("INPUT0", shape=left), tensor("INPUT1", shape=right)], [bytes(min(n, 4096)) for n in sizes]
    )


def _product(shape: Sequence[int]) -> int:
    result = 1
    for dimension in shape:
        result *= dimension
    return result


def _contents(model: str, datatype: str, shape: Sequence[int], **contents: Sequence[Any]) -> Any:
    return request(model, [tensor("INPUT0", datatype, shape, contents=contents)])


def _bytes(model: str, shape: Sequence[int], data: bytes) -> Any:
    return request(model, [tensor("INPUT0", "BYTES", shape)], [data])


def _parameter(name: str, value: Any) -> Any:
    return request("add_sub", _PAIR, _RAW, parameters={name: value})


def _placed(**parameters: Any) -> Any:
    return request("add_sub", [tensor("INPUT0", parameters=parameters), tensor("INPUT1")], [bytes(16)])


def _output(*, name: str = "OUTPUT0", **parameters: Any) -> Any:
    return request("add_sub", _PAIR, _RAW, [(name, parameters)])


CASES: Mapping[str, Any] = {
    # What is in order.
    "good": request("add_sub", _PAIR, _RAW),
    "good with output": request("add_sub", _PAIR, _RAW, ["OUTPUT1"]),
    "good with id": request("add_sub", _PAIR, _RAW, request_id="abc"),
    "good batch 8": _batched([8, 4], [8, 4]),
    "good any order": request("add_sub", _PAIR[::-1], _RAW),
    "good reshape": request("reshape", [_INT4], [bytes(16)]),
    "good one optional": request("optional", [_A], [bytes(8)]),
    "good no input": request("all_optional"),
    # Parameters of the request.
    "sequence_id bool": _parameter("sequence_id", True),
    "sequence_id uint64": _parameter("sequence_id", ("uint64_param", 3)),
    "sequence_id double": _parameter("sequence_id", 1.5),
    "sequence_id long": _parameter("sequence_id", "x" * 129),
    "sequence_id longest": _parameter("sequence_id", "x" * 128),
    "sequence_id negative": _parameter("sequence_id", -1),
    "sequence_start int": _parameter("sequence_start", 1),
    "sequence_end string": _parameter("sequence_end", "true"),
    "priority string": _parameter("priority", "1"),
    "priority negative": _parameter("priority", -1),
    "priority uint64": _parameter("priority", ("uint64_param", 1)),
    "timeout uint64": _parameter("timeout", ("uint64_param", 1)),
    "timeout string": _parameter("timeout", "1"),
    "timeout negative": _parameter("timeout", -1),
    "final int": _parameter("triton_enable_empty_final_response", 1),
    "final bool": _parameter("triton_enable_empty_final_response", True),
    "triton_other": _parameter("triton_other", 1),
    "custom uint64": _parameter("custom", ("uint64_param", 1)),
    "custom unset": _parameter("custom", None),
    "custom double": _parameter("custom", 1.5),
    "binary_data_output": _parameter("binary_data_output", True),
    "headers": _parameter("headers", "x"),
    # Inputs: construction.
    "input twice": request("add_sub", [tensor("INPUT0"), tensor("INPUT0")], _RAW),
    "input twice with id": request("add_sub", [tensor("INPUT0"), tensor("INPUT0")], _RAW, request_id="abc"),
    "output twice": request("add_sub", _PAIR, _RAW, ["OUTPUT0", "OUTPUT0"]),
    "output twice and input twice": request("add_sub", [_PAIR[0]] * 2, _RAW, ["OUTPUT0", "OUTPUT0"]),
    "input twice before parameter": request("add_sub", [_PAIR[0]] * 2, _RAW, parameters={"priority": "x"}),
    "output twice before no data": request("add_sub", _PAIR, [], ["OUTPUT0", "OUTPUT0"]),
    "no data before unknown output": request("add_sub", _PAIR, [], ["NOPE"]),
    "empty input name": request("add_sub", [tensor(""), tensor("INPUT1")], _RAW),
    # Inputs: where the data is.
    "no data": request("add_sub", _PAIR),
    "no data for the second": request("add_sub", _PAIR, [bytes(16)]),
    "raw too many": request("add_sub", _PAIR, [bytes(16)] * 3),
    "no data and no elements": request("identity_fp16", [tensor("INPUT0", "FP16", [0])]),
    "no data and no elements in a batch": request("identity_batch", [tensor("INPUT0", "FP32", [1, 0, 2])]),
    "no data and no shape": request("identity_fp16", [tensor("INPUT0", "FP16", [])]),
    "no data and a wild shape": request("identity_fp16", [tensor("INPUT0", "FP16", [-1])]),
    "no data of unknown name": request("add_sub", [tensor("NOPE"), tensor("INPUT1")]),
    "both contents and raw": request(
        "add_sub", [tensor(contents={"fp32_contents": [1.0] * 4}), tensor("INPUT1")], _RAW
    ),
    "empty contents and raw": request("add_sub", [tensor(contents={}), tensor("INPUT1")], _RAW),
    "empty contents": request("add_sub", [tensor(contents={}), tensor("INPUT1", contents={})]),
    "empty contents and no elements": _contents("identity_fp16", "FP16", [0]),
    "region and contents": request("add_sub", [tensor(contents={}, parameters=_REGION), tensor("INPUT1")], [bytes(16)]),
    "region is no string": _placed(shared_memory_region=1),
    "region without size": _placed(shared_memory_region="nowhere"),
    "region size is no int": _placed(shared_memory_region="nowhere", shared_memory_byte_size="16"),
    "region size is uint64": _placed(shared_memory_region="nowhere", shared_memory_byte_size=("uint64_param", 16)),
    "region offset is no int": _placed(**_REGION, shared_memory_offset="0"),
    "size without region": _placed(shared_memory_byte_size=16),
    "offset without region": _placed(shared_memory_offset=16),
    "offset and size without region": _placed(shared_memory_offset=16, shared_memory_byte_size=16),
    "offset of wrong type without region": _placed(shared_memory_offset="16"),
    "unknown region": _placed(**_REGION),
    "negative size": _placed(shared_memory_region="nowhere", shared_memory_byte_size=-1),
    "other input parameter": _placed(binary_data_size=16),
    # Inputs: typed contents.
    "contents of other family": _contents("identity_fp16", "FP16", [1], fp32_contents=[1.0]),
    "contents fp64 for fp32": request(
        "add_sub", [tensor(contents={"fp64_contents": [1.0] * 4}), tensor("INPUT1", contents={"fp32_contents": []})]
    ),
    "contents two families": _contents("identity_int8", "INT8", [1], int_contents=[1], int64_contents=[1]),
    "contents two right families": _contents("identity_bool", "BOOL", [1], bool_contents=[True], uint_contents=[1]),
    "contents int for uint64": _contents("identity_uint64", "UINT64", [1], int_contents=[1]),
    "contents uint for uint64": _contents("identity_uint64", "UINT64", [1], uint_contents=[1]),
    "contents int for bool": _contents("identity_bool", "BOOL", [1], int_contents=[1]),
    "contents of unknown type": _contents("identity_bool", "WHAT", [1], int_contents=[1]),
    "contents of no type": _contents("identity_bool", "", [1], bytes_contents=[b"x"]),
    "contents bytes for int8": _contents("identity_int8", "INT8", [1], bytes_contents=[b"x"]),
    "contents too few": _contents("identity_int8", "INT8", [3], int_contents=[1]),
    "contents narrowed": _contents("identity_int8", "INT8", [2], int_contents=[300, -1]),
    "contents too many": _contents("identity_bool", "BOOL", [1], bool_contents=[True, True]),
    "contents bytes too few": _contents("identity_bytes", "BYTES", [2], bytes_contents=[b"x"]),
    "contents bytes too many": _contents("identity_bytes", "BYTES", [1], bytes_contents=[b"x", b"y"]),
    "contents bytes": _contents("identity_bytes", "BYTES", [1], bytes_contents=[b"x"]),
    # Outputs.
    "unknown output": _output(name="NOPE"),
    "unknown output with id": request("add_sub", _PAIR, _RAW, ["NOPE"], request_id="abc"),
    "unknown output before missing input": request("add_sub", [tensor()], [bytes(16)], ["NOPE"]),
    "classification string": _output(classification="1"),
    "classification zero": _output(classification=0),
    "classification negative": _output(classification=-1),
    "classification uint64": _output(classification=("uint64_param", 1)),
    "classification with region": _output(classification=1, **_REGION),
    "bad classification with region": _output(classification=0, **_REGION),
    "output to unknown region": _output(**_REGION),
    "unknown output to unknown region": _output(name="NOPE", **_REGION),
    "output region without size": _output(shared_memory_region="nowhere"),
    "output region is no string": _output(shared_memory_region=True),
    "output offset without region": _output(shared_memory_offset=1),
    "output binary_data": _output(binary_data=False),
    "output region before missing input": request("add_sub", [tensor()], [bytes(16)], [("OUTPUT0", _REGION)]),
    # The core's checks.
    "missing input": request("add_sub", [tensor("INPUT0")], [bytes(16)]),
    "missing input with id": request("add_sub", [tensor("INPUT0")], [bytes(16)], request_id="abc"),
    "missing inputs": request("add_sub"),
    "too many inputs": request("add_sub", [*_PAIR, tensor("NOPE")], [bytes(16)] * 3),
    "too many and missing": request("add_sub", [tensor("X"), tensor("INPUT1"), tensor("Z")], [bytes(16)] * 3),
    "wrong name": request("add_sub", [tensor("NOPE"), tensor("INPUT1")], _RAW),
    "wrong name with id": request("add_sub", [tensor("NOPE"), tensor("INPUT1")], _RAW, request_id="abc"),
    "optional: none": request("optional"),
    "optional: only optional": request("optional", [tensor("B", "INT32", [2])], [bytes(8)]),
    "optional: unknown": request("optional", [_A, tensor("NOPE")], [bytes(8), bytes(8)]),
    "optional: too many": request(
        "optional",
        [_A, tensor("B", "INT32", [2]), tensor("C", "BYTES", [1]), tensor("D")],
        [bytes(8), bytes(8), _string(b""), b""],
    ),
    "all optional: unknown": request("all_optional", [tensor("NOPE")], [b""]),
    "no shape": _batched([], []),
    "no shape for one": _batched([1, 4], []),
    "no shape, no batch": request("reshape", [tensor("INPUT0", "INT32", [])], [bytes(16)]),
    "batches differ": _batched([1, 4], [2, 4]),
    "batches differ and too large": _batched([9, 4], [2, 4]),
    "batch too large": _batched([9, 4], [9, 4]),
    "batch zero": _batched([0, 4], [0, 4]),
    "batch zero and one": _batched([0, 4], [1, 4]),
    "batch one and zero": _batched([1, 4], [0, 4]),
    "batch negative": _batched([-1, 4], [-1, 4]),
    "batch minus two": _batched([-2, 4], [-2, 4]),
    "batch huge": _batched([2**33, 4], [2**33, 4]),
    "batch huge differs": _batched([2**32 + 1, 4], [1, 4]),
    "wrong type": request("add_sub", [tensor("INPUT0", "INT32"), tensor("INPUT1")], _RAW),
    "unknown type": request("add_sub", [tensor("INPUT0", "WHAT"), tensor("INPUT1")], _RAW),
    "lower case type": request("add_sub", [tensor("INPUT0", "fp32"), tensor("INPUT1")], _RAW),
    "empty type": request("add_sub", [tensor("INPUT0", ""), tensor("INPUT1")], _RAW),
    "config's type": request("add_sub", [tensor("INPUT0", "TYPE_FP32"), tensor("INPUT1")], _RAW),
    "wrong types of both": request("add_sub", [tensor("INPUT1", "INT32"), tensor("INPUT0", "INT8")], _RAW),
    "wrong type and shape": request("add_sub", [tensor("INPUT0", "INT32", [1, 5]), tensor("INPUT1")], _RAW),
    "wrong shape, then type": request("add_sub", [tensor("INPUT0", "FP32", [1, 5]), tensor("INPUT1", "INT8")], _RAW),
    "wrong shape": _batched([1, 5], [1, 4]),
    "wrong shape with id": request("add_sub", [tensor(shape=[1, 5]), tensor("INPUT1")], _RAW, request_id="abc"),
    "wrong rank": _batched([1, 4, 1], [1, 4]),
    "rank one": _batched([4], [4]),
    "wrong shape, no batch": request("reshape", [tensor("INPUT0", "INT32", [2, 2])], [bytes(16)]),
    "wild dimension": _batched([1, -1], [1, 4]),
    "wild dimension, no batch": request("reshape", [tensor("INPUT0", "INT32", [-1])], [bytes(16)]),
    "minus two for a fixed": _batched([1, -2], [1, 4]),
    "minus two for a free": request("identity_fp16", [tensor("INPUT0", "FP16", [-2])], [b""]),
    "minus two for a free in a batch": request("identity_batch", [tensor("INPUT0", "FP32", [1, -2, 2])], [b""]),
    "minus two twice": request("identity_variable", [tensor("INPUT0", "INT32", [-2, -2])], [bytes(16)]),
    "minus one twice": request("identity_variable", [tensor("INPUT0", "INT32", [-1, -1])], [bytes(16)]),
    "zero elements": request("identity_fp16", [tensor("INPUT0", "FP16", [0])], [b""]),
    "zero elements with data": request("identity_fp16", [tensor("INPUT0", "FP16", [0])], [b"12"]),
    "wild shape of strings": _bytes("identity_bytes", [-1], b""),
    "minus two strings": _bytes("identity_bytes", [-2], b""),
    "too short": request("add_sub", _PAIR, [bytes(15), bytes(16)]),
    "too long": request("add_sub", _PAIR, [bytes(17), bytes(16)]),
    "empty": request("add_sub", _PAIR, [b"", bytes(16)]),
    "too short with id": request("add_sub", _PAIR, [bytes(15), bytes(16)], request_id="abc"),
    "reshape too short": request("reshape", [_INT4], [bytes(12)]),
    "elements overflow": request("identity_variable", [tensor("INPUT0", "INT32", [2**62, 4])], [b""]),
    "elements overflow with zero": request("identity_variable", [tensor("INPUT0", "INT32", [2**62, 0])], [b""]),
    "bytes overflow": request("identity_fp16", [tensor("INPUT0", "FP16", [2**62])], [b""]),
    "bytes at the limit": request("identity_fp16", [tensor("INPUT0", "FP16", [2**62 - 1])], [b""]),
    "largest dimension": request("identity_int8", [tensor("INPUT0", "INT8", [2**63 - 1])], [b""]),
    "one wrong, other missing": request("add_sub", [tensor("INPUT0", "INT8")], [bytes(16)]),
    # Strings.
    "strings": _bytes("identity_bytes", [2], _string(b"a", b"")),
    "string count too few": _bytes("identity_bytes", [3], _string(b"a", b"b")),
    "string count too many": _bytes("identity_bytes", [1], _string(b"a", b"b")),
    "string none": _bytes("identity_bytes", [1], b""),
    "string zero elements": _bytes("identity_bytes", [0], b""),
    "string zero elements with data": _bytes("identity_bytes", [0], _string(b"a")),
    "string short length": _bytes("identity_bytes", [1], b"\1\0\0"),
    "string short second length": _bytes("identity_bytes", [2], _string(b"a") + b"\1"),
    "string short length after enough": _bytes("identity_bytes", [1], _string(b"a") + b"\1"),
    "string too long": _bytes("identity_bytes", [1], b"\5\0\0\0abc"),
    "string much too long": _bytes("identity_bytes", [1], b"\xff\xff\xff\xffabc"),
    "string too long, more wanted": _bytes("identity_bytes", [2], b"\5\0\0\0abc"),
    "string too long after one": _bytes("identity_bytes", [2], _string(b"a") + b"\5\0\0\0abc"),
    "string too short": _bytes("identity_bytes", [1], _string(b"a") + b"b"),
    "string trailing bytes": _bytes("identity_bytes", [1], _string(b"a") + b"bcdef"),
    "string batch": _bytes("identity_bytes_batch", [2, 1], _string(b"a", b"b")),
    "string batch too few": _bytes("identity_bytes_batch", [2, 1], _string(b"a")),
    "strings overflow": _bytes("identity_bytes", [2**63 - 1], b""),
}
