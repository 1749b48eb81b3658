"""Does a request fit the model? Pure.

The rules, their order and their texts are those of Triton's InferenceRequest::Normalize. Negative dimensions, and sizes
that an int64 cannot hold, are refused as its newer versions do.

Strategy: nearly all requests are right, and of few different shapes. So what a shape means for an input is worked out
once and remembered, and a request is accepted by looking it up. Whatever is not accepted so goes through the complete
check, which either finds the first thing that is wrong in Triton's order, or accepts an unusual request.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from tensorhub import bytes_codec
from tensorhub.devices import DeviceMemory
from tensorhub.errors import InvalidArgument
from tensorhub.protocol.model_spec import CorrelationControl, InputSpec, ModelSpec, Shape, carry_free
from tensorhub.requests import Buffer, Tensor
from tensorhub.tensors import BY_NAME, MAX_BYTE_SIZE, DataType, shape_text

BATCH_NOTE = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to each "
    "input shape. If you want to specify the full shape including the batch dim in your input dims config, try setting "
    "max_batch_size to zero. See the model configuration docs for more info on max_batch_size."
)

_REMEMBERED_SHAPES = 256
"""Of one input; clients choose shapes, so it must be bounded. When it is full, it is emptied."""

_INTEGER_CONTROLS = frozenset((DataType.UINT64, DataType.INT64, DataType.UINT32, DataType.INT32))

_UINT32 = 0xFFFFFFFF


class GivenInput(NamedTuple):
    """An input as the client gave it.

    Attributes:
        datatype: the client's text; it may be no datatype at all.
        data: format "B" where it is a memoryview, so that its length is in bytes.
    """

    name: str
    datatype: str
    shape: Shape
    data: bytes | bytearray | memoryview | DeviceMemory


class Accepted(NamedTuple):
    """A request that fits.

    Attributes:
        batch_size: rows; 1 for a model that does not batch.
        inputs: by name, in the order of the request, with the shapes that the model wants.
    """

    batch_size: int
    inputs: dict[str, Tensor]


class _Meaning(NamedTuple):
    """What a shape means for an input.

    Attributes:
        rows: the batch dimension; 0 where there is none.
        byte_size: that the data must have; for BYTES, the number of elements.
    """

    rows: int
    model_shape: Shape
    byte_size: int


class InputValidator:
    """Judges the requests of one model version. Thread-safe: what it remembers are values."""

    __slots__ = ("_meanings", "_required", "_rows_limit", "_spec", "_total", "_types")

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._total = len(spec.inputs)
        self._required = sum(not item.optional for item in spec.inputs.values())
        self._rows_limit = spec.max_batch_size
        self._meanings: dict[str, dict[Shape, _Meaning]] = {name: {} for name in spec.inputs}
        self._types = {name: (item.datatype, str(item.datatype.value)) for name, item in spec.inputs.items()}

    def accept(self, given: Sequence[GivenInput], requested: Collection[str], request_id: str) -> Accepted:
        """Check a request.

        Args:
            given: no name twice.
            requested: names of the outputs that the client listed.

        Raises:
            InvalidArgument: the first thing that is wrong, with Triton's text.
        """
        outputs = self._spec.outputs
        if self._required <= len(given) <= self._total and (
            not requested or all(name in outputs for name in requested)
        ):
            accepted = self._accept_usual(given)
            if accepted is not None:
                return accepted
        return _check(self._spec, given, requested, prefix(request_id))

    def _accept_usual(self, given: Sequence[GivenInput]) -> Accepted | None:
        """Accept a request in which nothing is unusual; its count of inputs has been checked."""
        types = self._types
        rows = 0
        result = {}
        for name, datatype_name, shape, data in given:
            meanings = self._meanings.get(name)
            if meanings is None:
                return None
            datatype, wanted = types[name]
            if datatype_name != wanted:
                return None
            meaning = meanings.get(shape) or self._learn(name, shape)
            if meaning is None:
                return None
            if meaning.rows != rows and meaning.rows:
                if rows:
                    return None
                rows = meaning.rows
            if datatype is DataType.BYTES:
                if not _holds(data, meaning.byte_size):
                    return None
            elif len(data) != meaning.byte_size:
                return None
            result[name] = Tensor(name, datatype, meaning.model_shape, data)
        return Accepted(rows or 1, result)

    def _learn(self, name: str, shape: Shape) -> _Meaning | None:
        """Work out what a shape means, if it is a usual one."""
        spec = self._spec.inputs[name]
        dims = shape
        rows = 0
        if spec.batched:
            if not shape or not 1 <= shape[0] <= self._rows_limit:
                return None
            rows, dims = shape[0], shape[1:]
        if not _fits(spec.dims, dims) or any(dimension < 0 for dimension in dims):
            return None
        count = _maybe_count(shape)
        if count is None or count * spec.datatype.item_size > MAX_BYTE_SIZE:
            return None
        byte_size = count * (spec.datatype.item_size or 1)
        meaning = _Meaning(rows, _model_shape(spec, shape[:1] if spec.batched else (), dims), byte_size)
        meanings = self._meanings[name]
        if len(meanings) >= _REMEMBERED_SHAPES:
            meanings.clear()
        meanings[shape] = meaning
        return meaning


def prefix(request_id: str) -> str:
    """Return what Triton puts in front of most errors of a request."""
    return f"[request id: {request_id or '<id_unknown>'}] "


def check_correlation(control: CorrelationControl, correlation_id: int | str, model: str) -> None:
    """Check that a correlation id is of the type that the model's control input has.

    Raises:
        InvalidArgument: it is not.
    """
    if isinstance(correlation_id, str):
        if control.datatype is not DataType.BYTES:
            raise _wrong_control(control, "BYTES", model)
    elif control.datatype not in _INTEGER_CONTROLS:
        raise _wrong_control(control, "UINT64", model)


def _wrong_control(control: CorrelationControl, got: str, model: str) -> InvalidArgument:
    return InvalidArgument(
        f"sequence batching control '{control.name}' data-type is '{got}', but model '{model}' expects "
        f"'{control.datatype.value}'"
    )


def _maybe_count(shape: Shape) -> int | None:
    """Multiply as Triton does, from the left: a zero further to the right does not undo an overflow, which is None."""
    count = 1
    for dimension in shape:
        count *= dimension
        if count > MAX_BYTE_SIZE:
            return None
    return count


def _fits(expected: Shape, shape: Shape) -> bool:
    if expected == shape:
        return True
    return len(expected) == len(shape) and all(want in (-1, got) for want, got in zip(expected, shape, strict=True))


def _model_shape(spec: InputSpec, rows: Shape, dims: Shape) -> Shape:
    return (*rows, *(dims if spec.reshape is None else carry_free(spec.dims, spec.reshape, dims)))


def _holds(data: Buffer, count: int) -> bool:
    scan = bytes_codec.count_elements(data, count)
    return scan.count == count and not scan.partial_length and scan.overrun is None


# --- the complete check


def _check(spec: ModelSpec, given: Sequence[GivenInput], requested: Collection[str], request_prefix: str) -> Accepted:
    for name in requested:
        if name not in spec.outputs:
            raise InvalidArgument(f"unexpected inference output '{name}' for model '{spec.name}'")
    _check_count(spec, given, request_prefix)
    for item in given:
        if item.name not in spec.inputs:
            raise InvalidArgument(f"unexpected inference input '{item.name}' for model '{spec.name}'")
    # Triton walks over its inputs from the last to the first: which error is first depends on it.
    backwards = [(spec.inputs[item.name], item) for item in reversed(given)]
    batch_size = _check_batch(spec, backwards, request_prefix)
    shapes = {item.name: _check_input(spec, wanted, item, batch_size, request_prefix) for wanted, item in backwards}
    for wanted, item in backwards:
        _check_data(spec, wanted, item, shapes[item.name], request_prefix)
    inputs = {}
    for item in given:
        wanted = spec.inputs[item.name]
        shape = shapes[item.name]
        split = 1 if wanted.batched and batch_size else 0
        model_shape = _model_shape(wanted, shape[:split], shape[split:])
        inputs[item.name] = Tensor(item.name, wanted.datatype, model_shape, item.data)
    return Accepted(batch_size or 1, inputs)


def _check_count(spec: ModelSpec, given: Sequence[GivenInput], request_prefix: str) -> None:
    required = [item.name for item in spec.inputs.values() if not item.optional]
    if len(required) <= len(given) <= len(spec.inputs):
        return
    names = [item.name for item in reversed(given)]
    missing = [name for name in required if name not in names]
    wanted = (
        f"expected {len(spec.inputs)} inputs"
        if len(required) == len(spec.inputs)
        else f"expected number of inputs between {len(required)} and {len(spec.inputs)}"
    )
    raise InvalidArgument(
        f"{request_prefix}{wanted} but got {len(given)} inputs for model '{spec.name}'. Got input(s) "
        f"{_names(names) if names else '[]'}, but missing required input(s) {_names(missing)}. Please provide all "
        "required input(s)."
    )


def _names(names: Sequence[str]) -> str:
    """Print a list as Triton does, which forgets the opening bracket of an empty one."""
    return "['" + "','".join(names) + "']" if names else "]"


def _check_batch(spec: ModelSpec, backwards: Sequence[tuple[InputSpec, GivenInput]], request_prefix: str) -> int:
    """Return the rows of a request; 0 if its batch dimension is 0, which Triton takes for "none"."""
    batch_size = 0
    for wanted, item in backwards:
        if not wanted.batched:
            continue
        if not item.shape:
            raise InvalidArgument(
                f"{request_prefix}input '{item.name}' has no shape but model requires batch dimension for '{spec.name}'"
            )
        if batch_size == 0:
            batch_size = item.shape[0] & _UINT32
        elif batch_size != item.shape[0]:
            raise InvalidArgument(
                f"{request_prefix}input '{item.name}' batch size does not match other inputs for '{spec.name}'"
            )
    if spec.max_batch_size and batch_size > spec.max_batch_size:
        raise InvalidArgument(
            f"{request_prefix}inference request batch-size must be <= {spec.max_batch_size} for '{spec.name}'"
        )
    return batch_size


def _check_input(spec: ModelSpec, wanted: InputSpec, item: GivenInput, batch_size: int, request_prefix: str) -> Shape:
    """Check type and shape; return the shape, without a batch dimension of 0."""
    if BY_NAME.get(item.datatype) is not wanted.datatype:
        got = item.datatype if item.datatype in BY_NAME else "<invalid>"
        raise InvalidArgument(
            f"{request_prefix}inference input '{item.name}' data-type is '{got}', but model '{spec.name}' expects "
            f"'{wanted.datatype.value}'"
        )
    dims = item.shape[1:] if wanted.batched else item.shape
    if -1 in dims and len(dims) == len(wanted.dims):
        raise InvalidArgument(
            f"{request_prefix}All input dimensions should be specified for input '{item.name}' for model "
            f"'{spec.name}', got {shape_text(item.shape)}"
        )
    if not _fits(wanted.dims, dims):
        raise InvalidArgument(
            f"{request_prefix}unexpected shape for input '{item.name}' for model '{spec.name}'. Expected "
            f"{shape_text(wanted.expected)}, got {shape_text(item.shape)}. {BATCH_NOTE if spec.max_batch_size else ''}"
        )
    return (batch_size, *dims) if wanted.batched and batch_size else dims


def _check_data(spec: ModelSpec, wanted: InputSpec, item: GivenInput, shape: Shape, request_prefix: str) -> None:
    is_bytes = wanted.datatype is DataType.BYTES
    if any(dimension < 0 for dimension in shape):
        where = "dimension in shape" if is_bytes else "dimension"
        raise InvalidArgument(f"{request_prefix}tensor '{item.name}' contains an invalid {where} {shape_text(shape)}")
    count = _maybe_count(shape)
    if count is None:
        raise InvalidArgument(
            f"{request_prefix}element count for tensor '{item.name}' exceeds maximum size of {MAX_BYTE_SIZE}"
        )
    if is_bytes:
        _check_strings(spec, item, count, request_prefix)
        return
    byte_size = count * wanted.datatype.item_size
    if byte_size > MAX_BYTE_SIZE:
        raise InvalidArgument(
            f"{request_prefix}byte size for tensor '{item.name}' exceeds maximum size of {MAX_BYTE_SIZE}"
        )
    if byte_size != len(item.data):
        raise InvalidArgument(
            f"{request_prefix}input byte size mismatch for input '{item.name}' for model '{spec.name}'. Expected "
            f"{byte_size}, got {len(item.data)}"
        )


def _check_strings(spec: ModelSpec, item: GivenInput, count: int, request_prefix: str) -> None:
    scan = bytes_codec.count_elements(item.data, count)
    if scan.count > count:
        raise InvalidArgument(
            f"{request_prefix}unexpected number of string elements {scan.count} for inference input '{item.name}' for "
            f"model '{spec.name}', expecting {count}"
        )
    if scan.partial_length:
        raise InvalidArgument(
            f"{request_prefix}incomplete string length indicator for inference input '{item.name}' for model "
            f"'{spec.name}', expecting 4 bytes but only {scan.partial_length} bytes available. Please make sure the "
            "string length indicator is in one buffer."
        )
    if scan.count < count:
        raise InvalidArgument(
            f"{request_prefix}expected {count} string elements for inference input '{item.name}' for model "
            f"'{spec.name}', got {scan.count}"
        )
    if scan.overrun is not None:
        length, available = scan.overrun
        raise InvalidArgument(
            f"incomplete string data for inference input '{item.name}', expecting string of length {length} but only "
            f"{available} bytes available"
        )
