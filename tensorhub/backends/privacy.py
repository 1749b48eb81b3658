"""Whether what a model returns may be handed on as it is, and who may write to it.

Models return arrays of all kinds: fresh ones, views of their inputs, ones that they keep and fill again for the next
request. Only what nobody else can write to is passed on by reference. CPython counts references, and a view refers to
the array that it is of; so memory that a tensor alone refers to is nobody else's. Ask when the run that made the tensor
is over: until then, its frames refer to it as well. Of the memory of a GPU nobody can tell, unless it is a copy that
was made here.
"""

import sys
from collections.abc import Iterable

import numpy as np

from tensorhub.devices import DeviceError, DeviceMemory
from tensorhub.errors import Unavailable
from tensorhub.requests import Buffer, Tensor, flat_view

_OWN_REFERENCES = 3
"""The tensor's, a local name's, and that of getrefcount's argument."""


def is_private(tensor: Tensor) -> bool:
    """Tell whether nobody but this tensor refers to its memory, so that it may be written to; False when in doubt."""
    data = tensor.data
    if sys.getrefcount(data) > _OWN_REFERENCES:
        return False
    if not isinstance(data, np.ndarray):
        return data.allocated if type(data) is DeviceMemory else isinstance(data, bytearray)
    if data.flags.owndata:
        return True
    owner = data.base
    # NumPy makes views of views refer to the array that owns the memory: that, a local name, and the argument.
    return isinstance(owner, np.ndarray) and owner.flags.owndata and sys.getrefcount(owner) <= _OWN_REFERENCES


def secured(tensors: Iterable[Tensor], inputs: Iterable[Tensor]) -> list[Tensor]:
    """Return what a model has made so that it stays as it is: private tensors and views of inputs, copies of others.

    Args:
        tensors: of a response; the caller refers to them by nothing else.
        inputs: of the request, whose memory lives and does not change until all that follows is done.

    Raises:
        DeviceError, Unavailable: see `copied`.
    """
    given = {id(tensor.data) for tensor in inputs}
    return [
        tensor if isinstance(tensor.data, bytes) or _is_of(tensor.data, given) or is_private(tensor) else copied(tensor)
        for tensor in tensors
    ]


def own(tensor: Tensor, inputs: Iterable[Tensor]) -> tuple[Tensor, bool]:
    """Do as `secured` does for one tensor.

    Returns:
        The tensor or a copy of it, and whether it may be written to.

    Raises:
        DeviceError, Unavailable: see `copied`.
    """
    if is_private(tensor):
        return tensor, True
    if isinstance(tensor.data, bytes) or _is_of(tensor.data, {id(item.data) for item in inputs}):
        return tensor, False
    return copied(tensor), True


def _is_of(data: Buffer, given: set[int]) -> bool:
    """Tell whether this is one of those buffers, or an array on one."""
    owner: object = data
    while id(owner) not in given:
        if not isinstance(owner, np.ndarray):
            return False
        owner = owner.base
    return True


def copied(tensor: Tensor) -> Tensor:
    """Return a copy that is nobody else's: on the same GPU, or in the host's memory if that has no room for it.

    Raises:
        DeviceError: the driver refuses to read it.
        Unavailable: there is no memory for it.
    """
    data = tensor.data
    if type(data) is DeviceMemory and data.nbytes:
        try:
            return Tensor(tensor.name, tensor.datatype, tensor.shape, data.copy())
        except DeviceError:
            pass
    try:
        return Tensor(tensor.name, tensor.datatype, tensor.shape, bytearray(flat_view(data)))
    except MemoryError:
        raise Unavailable(f"there is no memory for a copy of tensor '{tensor.name}'") from None
