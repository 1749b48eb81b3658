"""`@tensorhub.model`: a Python function that is served as a model. Values only; nothing is imported or checked twice.

    import numpy as np
    import tensorhub

    @tensorhub.model(inputs={"A": ("FP32", [16]), "B": ("FP32", [16])}, outputs={"SUM": ("FP32", [16])},
                     max_batch_size=8, dynamic_batching=True)
    def add(A, B):
        return A + B

`tensorhub serve file.py` serves every model of the file. The function stays a function: a test can call it.

Shapes are given without the batch dimension. With a `max_batch_size` of at least 1 arrays have it, in front, and the
requests that the scheduler has put together are one call. A generator function is a decoupled model: it is called for
one request at a time, and each value that it yields is a response.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tensorhub.tensors import BY_NAME, DataType

ATTRIBUTE = "__tensorhub_model__"
"""Where a function has its FunctionModel."""

# What NumPy and Python call the types, by `__name__` or as text; so that NumPy need not be imported here.
_OTHER_NAMES = {
    "bool": "BOOL",
    "bool_": "BOOL",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "float": "FP64",
    "int": "INT64",
    "str": "BYTES",
    "str_": "BYTES",
    "bytes": "BYTES",
    "bytes_": "BYTES",
    "object": "BYTES",
    "object_": "BYTES",
    **{f"{kind}int{bits}": f"{kind}int{bits}".upper() for kind in ("", "u") for bits in (8, 16, 32, 64)},
}

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output.

    Attributes:
        datatype: its wire name, e.g. "FP32".
        shape: without the batch dimension; -1 for a dimension that varies.
        optional: an input that requests may leave out; the function's parameter then needs a default.
    """

    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True, slots=True)
class FunctionModel:
    """A decorated function and what it was decorated with.

    Attributes:
        batching: `dynamic_batching` of the configuration, as a dict of its fields; None if it is off.
        decoupled: it is a generator function: any number of responses.
        asynchronous: it is a coroutine function or an asynchronous generator.
        line: of the function in its file.
    """

    name: str
    function: Callable[..., Any]
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    max_batch_size: int = 0
    batching: Mapping[str, Any] | None = None
    instances: int = 1
    parameters: Mapping[str, str] = field(default_factory=dict)
    decoupled: bool = False
    asynchronous: bool = False
    line: int = 0


class ModelDefinitionError(TypeError):
    """A function cannot be served as it was decorated; the text says which, what and how to mend it."""


def model(
    *,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    max_batch_size: int = 0,
    dynamic_batching: bool | Mapping[str, Any] = False,
    instances: int = 1,
    name: str = "",
    parameters: Mapping[str, str] | None = None,
) -> Callable[[F], F]:
    """Serve a function as a model.

    The function gets each input as a keyword argument of its name: a NumPy array, BYTES as an array of bytes objects.
    It returns an array (if there is one output), a tuple in the order of `outputs`, or a dict by name.

    Args:
        inputs: name to (datatype, shape); to a `TensorSpec` for one that is optional. A datatype is a wire name such as
            "FP32", or a NumPy or Python type such as `np.float32` or `str`.
        outputs: likewise.
        max_batch_size: rows that one call takes; 0: arrays have no batch dimension, and a call is one request.
        dynamic_batching: put requests together; a dict has fields of `dynamic_batching` in a config.pbtxt, e.g.
            `{"max_queue_delay_microseconds": 500}`.
        instances: how many calls may run at once.
        name: the model's; the function's own if not given.
        parameters: the configuration's, for clients to read.

    Raises:
        ModelDefinitionError: these do not go together, or not with the function's parameters.
    """

    def decorate(function: F) -> F:
        title = name or getattr(function, "__name__", "")
        generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        found = FunctionModel(
            title,
            function,
            {key: _tensor(title, "input", key, value) for key, value in _mapping(title, "inputs", inputs).items()},
            {key: _tensor(title, "output", key, value) for key, value in _mapping(title, "outputs", outputs).items()},
            _count(title, "max_batch_size", max_batch_size, 0),
            _batching(title, dynamic_batching, max_batch_size),
            _count(title, "instances", instances, 1),
            dict(parameters or {}),
            decoupled=generator,
            asynchronous=inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function),
            line=getattr(getattr(function, "__code__", None), "co_firstlineno", 0),
        )
        _check_signature(found)
        setattr(function, ATTRIBUTE, found)
        return function

    return decorate


def _mapping(title: str, what: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not value:
        raise ModelDefinitionError(
            f"model '{title}': {what} must be a dict with at least one entry, name to (datatype, shape); got {value!r}"
        )
    return value


def _tensor(title: str, kind: str, name: str, value: Any) -> TensorSpec:
    where = f"model '{title}': {kind} '{name}'"
    if isinstance(value, TensorSpec):
        value, optional = (value.datatype, value.shape), value.optional
    else:
        optional = False
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ModelDefinitionError(f'{where} must be (datatype, shape), for example ("FP32", [16]); got {value!r}')
    datatype, shape = value
    if optional and kind == "output":
        raise ModelDefinitionError(f"{where} is optional; only inputs can be")
    return TensorSpec(_datatype(where, datatype).value, _shape(where, shape), optional)


def _datatype(where: str, value: Any) -> DataType:
    text = value if isinstance(value, str) else getattr(value, "__name__", "") or str(value)
    found = BY_NAME.get(text.removeprefix("TYPE_").replace("STRING", "BYTES")) or BY_NAME.get(
        _OTHER_NAMES.get(text, "")
    )
    if found is None:
        raise ModelDefinitionError(f"{where}: {value!r} is no datatype; there are {', '.join(BY_NAME)}")
    return found


def _shape(where: str, value: Any) -> tuple[int, ...]:
    if isinstance(value, int) or not isinstance(value, Sequence) or isinstance(value, str):
        raise ModelDefinitionError(f"{where}: the shape must be a list of numbers; got {value!r}")
    shape = tuple(value)
    if not shape or not all(type(size) is int and (size >= 1 or size == -1) for size in shape):
        raise ModelDefinitionError(
            f"{where}: dimensions are numbers of at least 1, or -1 for one that varies, and there is at least one, "
            f"without that of the batch; got {list(shape)!r}"
        )
    return shape


def _count(title: str, what: str, value: Any, least: int) -> int:
    if type(value) is not int or value < least:
        raise ModelDefinitionError(f"model '{title}': {what} must be a whole number of at least {least}; got {value!r}")
    return value


def _batching(title: str, value: Any, max_batch_size: int) -> Mapping[str, Any] | None:
    if value is False or value is None:
        return None
    if value is not True and not isinstance(value, Mapping):
        raise ModelDefinitionError(f"model '{title}': dynamic_batching must be True, False or a dict; got {value!r}")
    if not max_batch_size:
        raise ModelDefinitionError(f"model '{title}': dynamic_batching needs a max_batch_size of at least 1")
    return {} if value is True else dict(value)


def _check_signature(found: FunctionModel) -> None:
    """See that the function can be called with the inputs by name.

    Raises:
        ModelDefinitionError: it cannot.
    """
    where = f"model '{found.name}': function {getattr(found.function, '__name__', found.function)}"
    parameters = inspect.signature(found.function).parameters
    takes_any = any(item.kind is item.VAR_KEYWORD for item in parameters.values())
    named = {
        key: item for key, item in parameters.items() if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)
    }
    missing = [key for key in found.inputs if key not in named]
    if missing and not takes_any:
        raise ModelDefinitionError(
            f"{where} has no parameter for input '{missing[0]}'; its parameters are ({', '.join(parameters)}), and the "
            "names have to be those of the inputs"
        )
    required = [
        key
        for key, item in parameters.items()
        if item.default is item.empty and item.kind not in (item.VAR_KEYWORD, item.VAR_POSITIONAL)
    ]
    spare = [
        key for key in required if key not in found.inputs or parameters[key].kind is inspect.Parameter.POSITIONAL_ONLY
    ]
    if spare:
        raise ModelDefinitionError(
            f"{where} needs a parameter '{spare[0]}' that is no input; the inputs are {', '.join(found.inputs)}"
        )
    for key, spec in found.inputs.items():
        if spec.optional and key in required:
            raise ModelDefinitionError(f"{where}: input '{key}' is optional, so its parameter needs a default")
