"""The JSON documents of the HTTP interface as JSON Schemas (2020-12): the components of the OpenAPI document. Pure.

They say what the server takes and gives, not all that it refuses. Members that it does not know are ignored, as the
protocol wants it, so none of the schemas closes an object.
"""

from typing import Any

from tensorhub.tensors import DataType

Schema = dict[str, Any]

_INTEGERS = {
    DataType.UINT8: (0, 2**8 - 1),
    DataType.UINT16: (0, 2**16 - 1),
    DataType.UINT32: (0, 2**32 - 1),
    DataType.UINT64: (0, 2**64 - 1),
    DataType.INT8: (-(2**7), 2**7 - 1),
    DataType.INT16: (-(2**15), 2**15 - 1),
    DataType.INT32: (-(2**31), 2**31 - 1),
    DataType.INT64: (-(2**63), 2**63 - 1),
}
_MAX_UINT64 = 2**64 - 1
_MAX_INT64 = 2**63 - 1


def reference(name: str) -> Schema:
    """Return a reference to the component `name`."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema, **limits: Any) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items, **limits}


def fields(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    """Return the schema of an object."""
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}


def element(datatype: DataType) -> Schema | None:
    """Return the schema of one element in JSON; None for a type that JSON cannot carry."""
    if datatype in _INTEGERS:
        low, high = _INTEGERS[datatype]
        return {"type": "integer", "minimum": low, "maximum": high}
    if datatype in (DataType.FP32, DataType.FP64):
        return {"type": "number"}
    if datatype is DataType.BOOL:
        return {"type": "boolean"}
    return {"type": "string"} if datatype is DataType.BYTES else None


def data(datatype: DataType) -> Schema | None:
    """Return the schema of a tensor's `data`: elements in row-major order, flat or nested; None as in `element`."""
    if element(datatype) is None:
        return None
    return array(reference(f"{datatype.value}_data"))


def _nested(datatype: DataType, one: Schema) -> Schema:
    return {"oneOf": [one, array(reference(f"{datatype.value}_data"))]}


_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": _MAX_UINT64}
_SIZE: Schema = {"type": "integer", "minimum": 0, "maximum": _MAX_INT64}
_DATATYPE: Schema = {"type": "string", "enum": [item.value for item in DataType]}
_PLACE = {
    "shared_memory_region": _TEXT,
    "shared_memory_byte_size": _COUNT,
    "shared_memory_offset": _COUNT,
}
_DURATION = fields(("count", "ns"), count=_COUNT, ns=_COUNT)
_TENSOR_METADATA = fields(
    ("name", "datatype", "shape"), name=_TEXT, datatype={"type": "string"}, shape=array({"type": "integer"})
)
_INDEX_STATES = ["UNKNOWN", "READY", "UNAVAILABLE", "LOADING", "UNLOADING"]

COMPONENTS: dict[str, Schema] = {
    "Error": fields(("error",), error={"type": "string", "description": "What is wrong."}),
    "ServerMetadata": fields(
        ("name", "version", "extensions"), name=_TEXT, version=_TEXT, extensions=array({"type": "string"})
    ),
    "ModelMetadata": fields(
        ("name", "versions", "platform", "inputs", "outputs"),
        name=_TEXT,
        versions=array({"type": "string"}),
        platform=_TEXT,
        inputs=array(_TENSOR_METADATA),
        outputs=array(_TENSOR_METADATA),
    ),
    "ModelConfig": {
        "type": "object",
        "description": "The complete configuration, with the names of config.pbtxt.",
        "required": ["name", "max_batch_size", "input", "output"],
    },
    "Parameters": {
        "type": "object",
        "description": "sequence_id, sequence_start, sequence_end, priority, timeout (microseconds), "
        "binary_data_output; others are handed to the model.",
        "properties": {
            "sequence_id": {"oneOf": [_COUNT, {"type": "string", "maxLength": 128}]},
            "sequence_start": _FLAG,
            "sequence_end": _FLAG,
            "priority": _COUNT,
            "timeout": _COUNT,
            "binary_data_output": _FLAG,
        },
        "additionalProperties": {"type": ["string", "integer", "number", "boolean"]},
    },
    "Input": fields(
        ("name", "datatype", "shape"),
        name=_TEXT,
        datatype=_DATATYPE,
        shape=array(_SIZE),
        parameters={**fields(binary_data_size=_COUNT), "properties": {"binary_data_size": _COUNT, **_PLACE}},
        data={"type": "array"},
    ),
    "RequestedOutput": fields(
        ("name",),
        name=_TEXT,
        parameters={
            "type": "object",
            "properties": {
                "binary_data": _FLAG,
                "classification": {"type": "integer", "minimum": 0},
                **_PLACE,
                "shared_memory_grow": _FLAG,
                "shared_memory_allocate": _FLAG,
            },
        },
    ),
    "InferRequest": fields(
        ("inputs",),
        id=_TEXT,
        parameters=reference("Parameters"),
        inputs=array(reference("Input")),
        outputs=array(reference("RequestedOutput")),
    ),
    "Output": fields(
        ("name", "datatype", "shape"),
        name=_TEXT,
        datatype=_DATATYPE,
        shape=array({"type": "integer"}),
        parameters={"type": "object"},
        data={"type": "array"},
    ),
    "InferResponse": fields(
        ("model_name", "model_version"),
        model_name=_TEXT,
        model_version=_TEXT,
        id=_TEXT,
        parameters={"type": "object"},
        outputs=array(reference("Output")),
    ),
    "GenerateRequest": {
        "type": "object",
        "description": "A member with the name of an input is that tensor; others are parameters of the request.",
    },
    "GenerateResponse": fields(("model_name", "model_version"), id=_TEXT, model_name=_TEXT, model_version=_TEXT),
    "Statistics": fields(
        ("model_stats",),
        model_stats=array(
            fields(
                ("name", "version", "inference_count", "execution_count", "inference_stats"),
                name=_TEXT,
                version=_TEXT,
                last_inference=_COUNT,
                inference_count=_COUNT,
                execution_count=_COUNT,
                inference_stats={
                    "type": "object",
                    "properties": {"success": _DURATION, "fail": _DURATION, "queue": _DURATION},
                    "additionalProperties": _DURATION,
                },
                batch_stats={"type": "array"},
                memory_usage={"type": "array"},
            )
        ),
    ),
    "IndexRequest": fields(ready={"type": "boolean", "description": "List only what is ready."}),
    "Index": array(
        fields(("name",), name=_TEXT, version=_TEXT, state={"type": "string", "enum": _INDEX_STATES}, reason=_TEXT)
    ),
    "LoadRequest": fields(
        parameters={
            "type": "object",
            "description": "config: a configuration as JSON text, instead of config.pbtxt. file:<path>: a file of the "
            "model in base64, instead of its folder.",
            "properties": {"config": _TEXT},
            "additionalProperties": {"type": "string"},
        }
    ),
    "UnloadRequest": fields(parameters=fields(unload_dependents=_FLAG)),
    "SystemRegion": fields(
        ("key", "byte_size"),
        key={"type": "string", "description": "Name of the segment in /dev/shm."},
        offset=_COUNT,
        byte_size=_COUNT,
    ),
    "SystemRegions": array(
        fields(("name", "key", "offset", "byte_size"), name=_TEXT, key=_TEXT, offset=_COUNT, byte_size=_COUNT)
    ),
    "CudaRegion": fields(
        ("raw_handle", "device_id", "byte_size"),
        raw_handle=fields(("b64",), b64={"type": "string", "description": "The 64 bytes of the handle in base64."}),
        device_id=_COUNT,
        byte_size=_COUNT,
    ),
    "CudaRegions": array(fields(("name", "device_id", "byte_size"), name=_TEXT, device_id=_COUNT, byte_size=_COUNT)),
    "TraceSetting": {
        "type": "object",
        "properties": {
            "trace_level": {
                "type": ["array", "null"],
                "items": {"type": "string", "enum": ["OFF", "TIMESTAMPS", "TENSORS"]},
            },
            **{
                name: {"type": ["string", "null"], "pattern": "^-?[0-9]{1,9}$"}
                for name in ("trace_rate", "trace_count", "log_frequency")
            },
        },
    },
    "TraceSettings": {"type": "object"},
    "LogSetting": fields(
        log_info=_FLAG,
        log_warning=_FLAG,
        log_error=_FLAG,
        log_verbose_level={"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
        log_format={"type": "string", "enum": ["default", "ISO8601"]},
    ),
    "LogSettings": fields(
        ("log_info", "log_warning", "log_error", "log_verbose_level", "log_format"),
        log_file=_TEXT,
        log_info=_FLAG,
        log_warning=_FLAG,
        log_error=_FLAG,
        log_verbose_level=_COUNT,
        log_format=_TEXT,
    ),
    **{
        f"{datatype.value}_data": _nested(datatype, one)
        for datatype in DataType
        if (one := element(datatype)) is not None
    },
}
"""By name. `<datatype>_data` is one element of `data`, or a list of them."""
