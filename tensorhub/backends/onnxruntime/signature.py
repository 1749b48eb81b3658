"""What a network's inputs and outputs say about a config: filling it in, and finding contradictions. Pure.

The rules and the texts are those of Triton's ONNX Runtime backend: AutoCompleteConfig, ValidateInputs, ValidateOutputs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tensorhub.errors import InternalError, InvalidArgument, Unsupported
from tensorhub.protocol import messages
from tensorhub.tensors import DataType, shape_text

DEFAULT_MAX_BATCH_SIZE = 4
"""Of a network that batches, if neither its config nor --backend-config says another."""

_TYPES = {
    "tensor(bool)": DataType.BOOL,
    "tensor(uint8)": DataType.UINT8,
    "tensor(uint16)": DataType.UINT16,
    "tensor(uint32)": DataType.UINT32,
    "tensor(uint64)": DataType.UINT64,
    "tensor(int8)": DataType.INT8,
    "tensor(int16)": DataType.INT16,
    "tensor(int32)": DataType.INT32,
    "tensor(int64)": DataType.INT64,
    "tensor(float16)": DataType.FP16,
    "tensor(float)": DataType.FP32,
    "tensor(double)": DataType.FP64,
    "tensor(string)": DataType.BYTES,
    "tensor(bfloat16)": DataType.BF16,
}


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """An input or output of a network.

    Attributes:
        datatype: None for one that no client can send, such as complex numbers.
        dims: -1 where the network takes any size.
        symbols: the names of its free dimensions, in their places; None where there is none.
        optional: an initializer that a request may replace.
    """

    name: str
    datatype: DataType | None
    dims: tuple[int, ...]
    symbols: tuple[str | None, ...] = ()
    optional: bool = False

    @staticmethod
    def of(node: Any, *, optional: bool = False) -> "NodeInfo":
        """Read what ONNX Runtime says of one (`NodeArg`).

        Raises:
            Unsupported: it is a sequence, a map or an optional, and no tensor.
        """
        kind = str(node.type)
        if not kind.startswith("tensor("):
            raise Unsupported(f"Unsupported ONNX Type '{kind}' for I/O '{node.name}', expected 'tensor'.")
        return NodeInfo(
            node.name,
            _TYPES.get(kind),
            tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape),
            tuple(size if isinstance(size, str) else None for size in node.shape),
            optional,
        )


@dataclass(frozen=True, slots=True)
class Signature:
    """A network's inputs and outputs, by name."""

    inputs: Mapping[str, NodeInfo]
    outputs: Mapping[str, NodeInfo]

    @property
    def batches(self) -> bool:
        """Whether the first dimension of every tensor is free."""
        nodes = [*self.inputs.values(), *self.outputs.values()]
        return all(node.dims[:1] == (-1,) for node in nodes if not node.optional)


def needs_completion(config: Any) -> bool:
    """Whether inputs or outputs are missing from a config; otherwise it is left alone."""
    return not ((config.input or config.batch_input) and config.output)


def complete(config: Any, signature: Signature, default_max_batch_size: int = DEFAULT_MAX_BATCH_SIZE) -> Any:
    """Return a copy of an `inference.ModelConfig` with batching, inputs and outputs filled in where they are open.

    Raises:
        InvalidArgument: the config wants batches, and the network's first dimensions are fixed.
    """
    result = messages.ModelConfig()
    result.CopyFrom(config)
    if not needs_completion(config):
        return result
    if signature.batches:
        if result.max_batch_size == 0:
            result.max_batch_size = max(default_max_batch_size, 0)
        scheduled = result.HasField("sequence_batching") or result.HasField("dynamic_batching")
        if result.max_batch_size > 1 and not scheduled:
            result.dynamic_batching.SetInParent()
    elif result.max_batch_size != 0:
        raise InvalidArgument(
            f"autofill failed for model '{config.name}': model does not support batching while non-zero max_batch_size "
            "is specified"
        )
    if not result.input and not result.batch_input:
        _add(result.input, [node for node in signature.inputs.values() if not node.optional], result.max_batch_size)
    if not result.output:
        _add(result.output, signature.outputs.values(), result.max_batch_size)
    return result


def _add(target: Any, nodes: Iterable[NodeInfo], max_batch_size: int) -> None:
    for node in nodes:
        entry = target.add(name=node.name, data_type=node.datatype.config_number if node.datatype else 0)
        dims = node.dims[1:] if max_batch_size > 0 else node.dims
        entry.dims.extend(dims or (1,))
        if not dims and max_batch_size > 0:
            entry.reshape.SetInParent()


def check(config: Any, signature: Signature) -> None:
    """See that a complete config and a network fit.

    Raises:
        InvalidArgument, InternalError: they do not.
    """
    _check_count(config, signature)
    for control in _controls(config):
        _check_control(config, signature, control)
    inputs = signature.inputs
    for item in config.input:
        if item.optional and config.max_batch_size != 0:
            raise InvalidArgument(
                f"unable to load model '{config.name}', optional input '{item.name}' is not supported for models that "
                "support batching"
            )
        node = _find(item, inputs, "input")
        _check_type(config, item, node, f"input '{item.name}'")
        if item.allow_ragged_batch:
            if node.dims != (-1,):
                raise InvalidArgument(
                    f"unable to load model '{config.name}', configuration expects model provides input with shape "
                    f"[-1]  for ragged input '{item.name}', model provides {shape_text(node.dims)}"
                )
        else:
            _check_dims(config, item, node, exact=False)
    scattered = {name for item in config.batch_output for name in item.target_name}
    for item in config.output:
        node = _find(item, signature.outputs, "output")
        _check_type(config, item, node, f"output '{item.name}'")
        if item.name not in scattered:
            _check_dims(config, item, node, exact=True)
    for state in config.sequence_batching.state:
        if state.output_name not in signature.outputs:
            raise _unexpected("output", state.output_name, signature.outputs)
        _check_type(config, state, signature.outputs[state.output_name], f"output state '{state.output_name}'")


def _check_count(config: Any, signature: Signature) -> None:
    batching = config.sequence_batching
    made = sum(len(item.target_name) for item in config.batch_input)
    expected = (
        sum(not item.optional for item in config.input) + made + len(batching.control_input) + len(batching.state)
    )
    provided = sum(not node.optional for node in signature.inputs.values())
    if expected != provided:
        raise InvalidArgument(
            f"unable to load model '{config.name}', configuration expects {expected} inputs, model provides {provided}"
        )


def _controls(config: Any) -> list[tuple[str, DataType]]:
    """Return name and type of the inputs through which a sequence is controlled."""
    found = []
    for item in config.sequence_batching.control_input:
        for control in item.control:
            if control.fp32_false_true:
                datatype = DataType.FP32
            elif control.bool_false_true:
                datatype = DataType.BOOL
            elif control.int32_false_true:
                datatype = DataType.INT32
            else:
                datatype = DataType.from_config(control.data_type)
            found.append((item.name, datatype))
    return found


def _check_control(config: Any, signature: Signature, control: tuple[str, DataType]) -> None:
    name, datatype = control
    node = signature.inputs.get(name)
    if node is None:
        raise InternalError(f"configuration specified sequence control '{name}', but model does not provide that input")
    dims = node.dims[1:] if config.max_batch_size > 0 else node.dims
    where = f"unable to load model '{config.name}', sequence control '{name}'"
    if dims != (1,):
        raise InvalidArgument(f"{where} in model has dims {shape_text(dims)} but dims [1] is expected")
    if node.datatype is not datatype:
        raise InvalidArgument(
            f"{where}, the model expects data-type {_type_text(node)} but the model configuration specifies data-type "
            f"{datatype.config_name}"
        )


def _find(item: Any, nodes: Mapping[str, NodeInfo], what: str) -> NodeInfo:
    if item.name not in nodes:
        raise _unexpected(what, item.name, nodes)
    return nodes[item.name]


def _unexpected(what: str, name: str, nodes: Iterable[str]) -> InvalidArgument:
    return InvalidArgument(f"unexpected inference {what} '{name}', allowed {what}s are: {', '.join(sorted(nodes))}")


def _check_type(config: Any, item: Any, node: NodeInfo, what: str) -> None:
    datatype = DataType.from_config(item.data_type)
    if datatype is not node.datatype:
        raise InvalidArgument(
            f"unable to load model '{config.name}', configuration expects datatype {datatype.config_name} for {what}, "
            f"model provides TYPE_{_type_text(node)}"
        )


def _type_text(node: NodeInfo) -> str:
    return node.datatype.value if node.datatype else "<invalid>"


def _check_dims(config: Any, item: Any, node: NodeInfo, *, exact: bool) -> None:
    dims = tuple(item.reshape.shape) if item.HasField("reshape") else tuple(item.dims)
    batches = config.max_batch_size > 0
    where = f"model '{config.name}', tensor '{item.name}'"
    if not node.dims and not batches:
        if any(dim != 1 for dim in dims):
            raise InvalidArgument(
                f"unable to load model '{config.name}', scalar tensor '{item.name}', should only provide 1 in the "
                "model configuration when the model doesn't support batching. Model configuration provided: "
                f"{shape_text(dims)}."
            )
        return
    if batches and node.dims[:1] != (-1,):
        raise InvalidArgument(
            f"{where}: for the model to support batching the shape should have at least 1 dimension and the first "
            f"dimension must be -1; but shape expected by the model is {shape_text(node.dims)}"
        )
    full = (-1, *dims) if batches else dims
    if _fits(node.dims, full, exact=exact):
        return
    explained = (
        "dimensions (an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, "
        "making complete shape"
        if batches
        else "dimensions (shape"
    )
    raise InvalidArgument(
        f"{where}: the model expects {len(node.dims)} dimensions (shape {shape_text(node.dims)}) but the model "
        f"configuration specifies {len(full)} {explained} {shape_text(full)})"
    )


def _fits(model: Sequence[int], config: Sequence[int], *, exact: bool) -> bool:
    if len(model) != len(config):
        return False
    return all(wanted == given or (wanted == -1 and not exact) for wanted, given in zip(model, config, strict=True))
