"""An infer call in KServe v2 JSON with the binary tensor data extension, decoded to protocol buffers. Pure.

Strategy: a request becomes one `inference.ModelInferRequest`, so that workers know one form only. Tensors of the binary
part are never copied if the body lies in an arena already: they become ranges of it. What the worker need not know (who
wants JSON, who wants binary) stays behind in a ResponsePlan, with which `json_reply` turns the worker's answer into the
HTTP body.

The order of the checks and their texts are those of Triton's HTTP server (EVRequestToTritonRequest and what it calls).
What concerns the model's config is the worker's to judge, but for raw requests, which only the config makes a request.
"""

from typing import Any

from tensorhub.errors import InternalError, InvalidArgument
from tensorhub.protocol import json_text, json_values, messages
from tensorhub.protocol.http_infer import (
    BINARY_PLAN,
    JSON_PLAN,
    HttpInfer,
    Limits,
    ResponsePlan,
    Target,
    check_json_size,
)
from tensorhub.protocol.json_inputs import InputDecoder
from tensorhub.protocol.json_parameters import NO_PARAMETERS, c_string, decode_parameters, set_region, set_uint
from tensorhub.protocol.json_text import Buffer
from tensorhub.protocol.json_values import read_field, read_member
from tensorhub.protocol.raw_request import decode_raw
from tensorhub.protocol.sharing import ALLOCATE


def decode_infer(
    body: Buffer, header_length: int, target: Target, limits: Limits, *, in_arena: bool = False
) -> HttpInfer:
    """Decode the body of an infer call.

    Args:
        body: the whole body, decompressed.
        header_length: of the JSON part; the body's length if the client sent no header; 0 for a raw request.
        target: the model that will run it.
        in_arena: the body lies in an arena, with its binary part aligned for every datatype: make ranges of the
            tensors, except of those that other tensors before them have put at an address of no use. Otherwise all are
            copied out of it.

    Raises:
        TensorhubError: Triton's error for what is wrong first.
    """
    if header_length == 0:
        return decode_raw(body, target, limits, in_arena)
    check_json_size(header_length, limits)
    document = json_text.parse(body if header_length == len(body) else memoryview(body)[:header_length])
    if type(document) is not dict:
        raise _missing_inputs()
    request = messages.ModelInferRequest(model_name=target.model)
    if "id" in document:
        request.id = c_string(read_field("id", json_values.as_string, document["id"]))
    binary_by_default = "parameters" in document and decode_parameters(document["parameters"], request.parameters)
    inputs = InputDecoder(body, header_length, target.model, request, limits, in_arena)
    try:
        tensors = document["inputs"]
    except KeyError:
        raise _missing_inputs() from None
    for tensor in read_field("inputs", json_values.as_array, tensors):
        inputs.add(tensor)
    inputs.finish()
    if "outputs" in document:
        plan = _decode_outputs(
            read_field("outputs", json_values.as_array, document["outputs"]), request, binary_by_default
        )
    else:
        plan = BINARY_PLAN if binary_by_default else JSON_PLAN
    return HttpInfer(request, plan, inputs.ranges, inputs.large)


def _missing_inputs() -> InternalError:
    return InternalError("Unable to parse 'inputs': attempt to access non-existing object member 'inputs'")


_OUR_FLAGS = ("shared_memory_grow", ALLOCATE)


def _decode_outputs(outputs: list[Any], request: Any, binary_by_default: bool) -> ResponsePlan:
    listed: dict[str, bool] = {}
    for output in outputs:
        parameters = output.get("parameters", NO_PARAMETERS) if type(output) is dict else NO_PARAMETERS
        if type(parameters) is not dict:
            parameters = NO_PARAMETERS
        if "shared_memory_region" in parameters:
            _check_region_output(parameters)
        name = read_member("name", output, json_values.as_string)
        repeated = name in listed
        # An output that is listed twice counts once, the first time; but it is read, so that its errors show.
        message = request.outputs.add(name=name) if not repeated else messages.ModelInferRequest().outputs.add()
        binary = _decode_output(parameters, message.parameters) if parameters else False
        if not repeated:
            listed[name] = binary
    return ResponsePlan(binary_by_default, listed)


def _check_region_output(parameters: dict[str, Any]) -> None:
    if "classification" in parameters:
        raise InvalidArgument("Output can't set both 'shared_memory_region' and 'classification'")
    if "binary_data" in parameters:
        try:
            binary = json_values.as_bool(parameters["binary_data"])
        except InternalError as exc:
            raise InternalError(f"Unable to set 'binary_data': {exc.message}") from None
        if binary:
            raise InvalidArgument("Output can't set both 'shared_memory_region' and 'binary_data'")


def _decode_output(parameters: dict[str, Any], into: Any) -> bool:
    """Copy what the worker must know; return whether the output is wanted in binary."""
    if "classification" in parameters:
        try:
            classes = json_values.as_uint(parameters["classification"])
        except InternalError as exc:
            raise InternalError(f"Unable to set 'classification': {exc.message}") from None
        if classes:
            set_uint(into["classification"], classes)
    if "shared_memory_region" in parameters:
        set_region(into, parameters)
        for name in _OUR_FLAGS:
            if name in parameters:
                into[name].bool_param = read_field(name, json_values.as_bool, parameters[name])
        return False
    if ALLOCATE in parameters:
        into[ALLOCATE].bool_param = read_field(ALLOCATE, json_values.as_bool, parameters[ALLOCATE])
    return "binary_data" in parameters and bool(
        read_field("binary_data", json_values.as_bool, parameters["binary_data"])
    )
