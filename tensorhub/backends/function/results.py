"""What a function returned, as the outputs that it declared. Pure."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tensorhub.backends.arrays import NUMPY_TYPES, Array
from tensorhub.decorator import FunctionModel, TensorSpec
from tensorhub.errors import InternalError
from tensorhub.tensors import BY_NAME, DataType, shape_text


def outputs_of(model: FunctionModel, returned: Any) -> dict[str, Array]:
    """Return the outputs by name, each of its declared type and shape.

    Args:
        returned: an array, a tuple in the order of the outputs, or a dict by name.

    Raises:
        InternalError: it is none of these, an output is missing, or has another type or shape; the text says which.
    """
    return {name: _checked(model, name, value) for name, value in _by_name(model, returned).items()}


def _by_name(model: FunctionModel, returned: Any) -> Mapping[str, Any]:
    names = list(model.outputs)
    if isinstance(returned, Mapping):
        if set(returned) != set(names):
            raise InternalError(
                f"model '{model.name}': the function returned {_list(returned)}; the outputs are {_list(names)}"
            )
        return {name: returned[name] for name in names}
    if isinstance(returned, tuple):
        if len(returned) != len(names):
            raise InternalError(
                f"model '{model.name}': the function returned {len(returned)} values; the outputs are {_list(names)}"
            )
        return dict(zip(names, returned, strict=True))
    if len(names) == 1 and returned is not None:
        return {names[0]: returned}
    raise InternalError(
        f"model '{model.name}': the function returned {type(returned).__name__}; it has to return a dict or a tuple "
        f"with the outputs {_list(names)}"
    )


def _checked(model: FunctionModel, name: str, value: Any) -> Array:
    spec = model.outputs[name]
    datatype = BY_NAME[spec.datatype]
    array = _as_array(model, name, value, datatype)
    expected = ((-1,) if model.max_batch_size else ()) + spec.shape
    if array.ndim != len(expected) or any(
        want not in (-1, got) for want, got in zip(expected, array.shape, strict=True)
    ):
        raise InternalError(
            f"model '{model.name}': output '{name}' has shape {shape_text(array.shape)}; declared is "
            f"{shape_text(expected)}{_batch_hint(model, spec)}"
        )
    return array


def _as_array(model: FunctionModel, name: str, value: Any, datatype: DataType) -> Array:
    dtype = NUMPY_TYPES[datatype]
    if not isinstance(value, (np.ndarray, np.generic)):
        try:
            return np.asarray(value, dtype)
        except (TypeError, ValueError) as exc:
            raise InternalError(f"model '{model.name}': output '{name}' cannot be an array of {dtype}: {exc}") from exc
    array = np.asarray(value)
    if datatype is DataType.BYTES and array.dtype.kind in "OSU":
        return array
    if array.dtype != dtype:
        raise InternalError(
            f"model '{model.name}': output '{name}' is an array of {array.dtype}; declared is {datatype.value}, which "
            f"is {dtype}: return it as .astype({str(dtype)!r})"
        )
    return array


def _batch_hint(model: FunctionModel, spec: TensorSpec) -> str:
    if not model.max_batch_size:
        return ""
    return f", the batch dimension in front of {shape_text(spec.shape)}"


def _list(names: Any) -> str:
    return "[" + ", ".join(map(str, names)) + "]"
