"""Runs a session on memory that is there already: the client's, in the host's memory or on the session's own GPU.

What lies on the GPU is bound by its address, so that the network reads it, and writes it, without a copy. Inputs that
are to be one batch are put together on the GPU.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import onnxruntime

from tensorhub.backends.arrays import NUMPY_TYPES, Array
from tensorhub.devices import DeviceMemory, DevicePort
from tensorhub.requests import Tensor, flat_view
from tensorhub.tensors import DataType, element_count

Shape = tuple[int, ...]

_BFLOAT16 = 16
"""ONNX's number of the element type."""


class SessionDevice(NamedTuple):
    """Where a session runs, in the words of ONNX Runtime: "cuda" and the ordinal."""

    kind: str
    ordinal: int


class Place(NamedTuple):
    """A tensor in the memory of the session's GPU.

    Attributes:
        memory: None for an output that ONNX Runtime finds a place for, whose shape is not known.
    """

    datatype: DataType
    shape: Shape
    port: DevicePort
    memory: DeviceMemory | None


class Bound(NamedTuple):
    """What a run reads and writes, by name.

    Attributes:
        feeds: inputs in the host's memory; BF16, whose names are in `bfloat16`, as its bits.
        inputs, outputs: on the GPU.
        arrays: where outputs are to be in the host's memory.
    """

    feeds: Mapping[str, Array]
    inputs: Mapping[str, Place]
    arrays: Mapping[str, Array]
    outputs: Mapping[str, Place]
    bfloat16: frozenset[str] = frozenset()


def gather(tensors: Sequence[Tensor], device: SessionDevice, *, flat: bool) -> Place:
    """Return one input of all requests of a batch, at least one of which is on the GPU: itself, or a copy there.

    Args:
        flat: they are laid end to end; else along the first dimension.

    Raises:
        DeviceError: the driver refuses.
    """
    first = tensors[0]
    shape = first.shape
    if flat:
        shape = (sum(element_count(tensor.shape) for tensor in tensors),)
    elif len(tensors) > 1:
        shape = (sum(tensor.shape[0] for tensor in tensors), *shape[1:])
    if len(tensors) == 1:
        assert isinstance(first.data, DeviceMemory)
        return Place(first.datatype, shape, first.data.port, first.data)
    port = next(tensor.data.port for tensor in tensors if isinstance(tensor.data, DeviceMemory))
    value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, _element(first.datatype), *device)
    pointer = value.data_ptr()
    for tensor in tensors:
        data = tensor.data if isinstance(tensor.data, DeviceMemory) else flat_view(tensor.data)
        if len(data):
            DeviceMemory(port, device.ordinal, pointer, len(data), value).fill(data)
        pointer += len(data)
    start = value.data_ptr()
    return Place(first.datatype, shape, port, DeviceMemory(port, device.ordinal, start, pointer - start, value))


def run_bound(
    session: Any, device: SessionDevice | None, bound: Bound, names: Sequence[str], options: Any
) -> list[Any]:
    """Run a session; everything is complete when this returns, also on the GPU.

    Returns:
        Its outputs: the arrays and memory that were given for them, or values of ONNX Runtime (OrtValue).
    """
    binding = session.io_binding()
    for name, array in bound.feeds.items():
        if name in bound.bfloat16:
            value = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _BFLOAT16)
            binding.bind_ortvalue_input(name, value)
        else:
            binding.bind_cpu_input(name, array)
    for name, place in bound.inputs.items():
        bind_input(binding, device, name, place)
    for name in names:
        if name in bound.arrays:
            array = bound.arrays[name]
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        elif name in bound.outputs:
            bind_output(binding, device, name, bound.outputs[name])
        else:
            binding.bind_output(name)
    if device is not None:
        binding.synchronize_inputs()
    session.run_with_iobinding(binding, options)
    if device is not None:
        binding.synchronize_outputs()
    values = binding.get_outputs()
    return [_result(bound, name, value) for name, value in zip(names, values, strict=True)]


def bind_input(binding: Any, device: SessionDevice | None, name: str, place: Place) -> None:
    """Have a network read memory of its GPU."""
    assert device is not None
    assert place.memory is not None
    binding.bind_input(name, *device, _element(place.datatype), place.shape, place.memory.pointer)


def bind_output(binding: Any, device: SessionDevice | None, name: str, place: Place) -> None:
    """Have a network write to memory of its GPU: the client's, or some that ONNX Runtime takes."""
    assert device is not None
    if place.memory is None:
        binding.bind_output(name, *device)
    else:
        binding.bind_output(name, *device, _element(place.datatype), place.shape, place.memory.pointer)


def _element(datatype: DataType) -> Any:
    return _BFLOAT16 if datatype is DataType.BF16 else NUMPY_TYPES[datatype]


def _result(bound: Bound, name: str, value: Any) -> Any:
    if name in bound.arrays:
        return bound.arrays[name]
    place = bound.outputs.get(name)
    return value if place is None or place.memory is None else place.memory
