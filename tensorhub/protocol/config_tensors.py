"""What the inputs and outputs of a ModelConfig must satisfy, with Triton's words for what they do not. Pure.

Source: ValidateModelIOConfig, ValidateIOShape and ValidateBatchIO in Triton's core.
"""

from collections.abc import Iterable
from typing import Any

from tensorhub.errors import InvalidArgument
from tensorhub.protocol import messages
from tensorhub.protocol.config_check import WILDCARD, enum_name, require
from tensorhub.tensors import element_count

TENSORRT_PLATFORM = "tensorrt_plan"

_INPUT = messages.message_class("inference.ModelInput")
_DATA_TYPE = messages.POOL.FindEnumTypeByName("inference.DataType").values_by_name
_BATCH_INPUT_TYPES = frozenset(_DATA_TYPE[name].number for name in ("TYPE_INT32", "TYPE_FP32"))


def validate_tensors(config: Any) -> None:
    """Check the inputs, outputs and batch inputs and outputs.

    Raises:
        InvalidArgument: the first rule that one of them breaks.
    """
    try:
        for tensor in config.input:
            _validate_tensor(tensor, config, "input")
            three = tensor.format in (_INPUT.FORMAT_NHWC, _INPUT.FORMAT_NCHW)
            require(not three or len(tensor.dims) == 3, "model input NHWC/NCHW require 3 dims")
            _validate_tensorrt_only(tensor, config, "input")
        for tensor in config.output:
            _validate_tensor(tensor, config, "output")
            _validate_tensorrt_only(tensor, config, "output")
        _validate_batch_tensors(config)
    except InvalidArgument as error:
        raise InvalidArgument(f"{error.message} for {config.name}") from None


def _validate_tensorrt_only(tensor: Any, config: Any, what: str) -> None:
    tensorrt = config.platform == TENSORRT_PLATFORM
    require(tensorrt or not tensor.is_shape_tensor, "shape tensors are only supported for TensorRT platform")
    if tensor.is_non_linear_format_io:
        require(tensorrt, "Non-linear IO format is only supported for the TensorRT platform")
        require(len(tensor.dims) == 3, f"Non-linear IO format {what} requires 3 dims")


def _validate_tensor(tensor: Any, config: Any, what: str) -> None:
    require(bool(tensor.name), f"model {what} must specify 'name'")
    where = f"model {what} '{tensor.name}'"
    require(tensor.data_type != 0, f"{where} must specify 'data_type'")
    require(len(tensor.dims) > 0, f"{where} must specify 'dims'")
    require(
        not tensor.HasField("reshape") or len(tensor.reshape.shape) > 0 or config.max_batch_size != 0,
        f"{where} cannot have empty reshape for non-batching model as scalar tensors are not supported",
    )
    allowed = "must be integer >= 1, or -1 to indicate a variable-size dimension"
    require(all(dim >= 1 or dim == WILDCARD for dim in tensor.dims), f"{where} dimension {allowed}")
    if tensor.HasField("reshape"):
        shape = tensor.reshape.shape
        require(all(dim >= 1 or dim == WILDCARD for dim in shape), f"{where} reshape dimensions {allowed}")
        _validate_reshape(list(tensor.dims), list(shape), where)


def _validate_reshape(dims: list[int], shape: list[int], where: str) -> None:
    """Check that `dims` can become `shape`: between the variable dimensions the element counts are the same.

    An empty shape is for one element.
    """
    sizes = f"{where} has different size for dims and reshape"
    if (WILDCARD in dims) != (WILDCARD in shape):
        raise InvalidArgument(sizes)
    counts, reshaped = _counts(dims), _counts(shape)
    require(
        len(counts) == len(reshaped),
        f"{where} has different number of variable-size dimensions for dims and reshape",
    )
    require(counts == reshaped, sizes)


def _counts(dims: list[int]) -> list[int]:
    """Return the element counts of the runs of dimensions between the variable ones."""
    runs: list[list[int]] = [[]]
    for dim in dims:
        if dim == WILDCARD:
            runs.append([])
        else:
            runs[-1].append(dim)
    return [element_count(run) for run in runs]


def _validate_batch_tensors(config: Any) -> None:
    inputs = {tensor.name for tensor in config.input}
    outputs = {tensor.name for tensor in config.output}
    for batch in config.batch_input:
        _validate_sources(batch, inputs, f"batch input kind '{enum_name(batch.Kind, batch.kind)}'")
        require(batch.data_type in _BATCH_INPUT_TYPES, "batch input data type must be TYPE_INT32 or TYPE_FP32")
        _validate_known(batch.source_input, inputs)
    for batch in config.batch_output:
        _validate_sources(batch, inputs, f"batch output kind '{enum_name(batch.Kind, batch.kind)}'")
        _validate_known(batch.source_input, inputs)
        for index, target in enumerate(batch.target_name):
            require(target in outputs, f"unknown target output name '{target}'")
            require(
                target not in batch.target_name[:index], f"target output name '{target}' can only be specified once"
            )


def _validate_sources(batch: Any, inputs: set[str], what: str) -> None:
    count = len(batch.source_input)
    require(count == 1, f"{what} expects 1 source input, got {count}")


def _validate_known(sources: Iterable[str], inputs: set[str]) -> None:
    for source in sources:
        require(source in inputs, f"unknown source input name '{source}'")
