"""BF16 through DLPack: contents, ownership, and capsules that nobody takes."""

import ctypes
import gc
import sys
from typing import Any

import numpy as np
import pytest

from tensorhub.backends.python import dlpack
from tensorhub.backends.python import utils as pb_utils
from tensorhub.requests import Tensor as WireTensor
from tensorhub.tensors import DataType

MANY = 10_000


def bf16(bits: Any) -> pb_utils.Tensor:
    array = np.asarray(bits, np.uint16)
    return pb_utils.Tensor._from_wire(WireTensor("IN", DataType.BF16, array.shape, array))


def type_in(capsule: Any) -> tuple[int, int, int]:
    """Code, bits and lanes, from the place where dlpack.h puts them in 64-bit programs."""
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.argtypes, get_pointer.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_void_p
    place = get_pointer(capsule, b"dltensor") + 20
    raw = ctypes.string_at(place, 4)
    return raw[0], raw[1], int.from_bytes(raw[2:], sys.byteorder)


@pytest.mark.parametrize("bits", [[0x3FC0, 0x7F80], [[1], [2], [3]], [], np.uint16(7)], ids=str)
def test_there_and_back(bits: Any) -> None:
    tensor = bf16(bits)
    capsule = tensor.to_dlpack()
    assert type_in(capsule) == (4, 16, 1)
    for source in (capsule, tensor):
        back = pb_utils.Tensor.from_dlpack("OUT", source)
        assert (back.name(), back.shape(), back.triton_dtype()) == ("OUT", tensor.shape(), DataType.BF16.config_number)
        wire = back._to_wire()
        assert bytes(memoryview(wire.data)) == np.asarray(bits, np.uint16).tobytes()
        with pytest.raises(pb_utils.TritonModelException, match=r"^Tensor dtype is BF16"):
            back.as_numpy()


def test_the_memory_is_shared_if_it_may_be_written() -> None:
    bits = np.array([1, 2], np.uint16)
    back = pb_utils.Tensor.from_dlpack("OUT", bf16(bits).to_dlpack())
    bits[0] = 9
    assert np.asarray(back._to_wire().data).tolist() == [9, 2]


def test_read_only_memory_is_copied() -> None:
    wire = WireTensor("IN", DataType.BF16, (2,), b"\x01\x00\x02\x00")
    back = pb_utils.Tensor.from_dlpack("OUT", pb_utils.Tensor._from_wire(wire).to_dlpack())
    assert np.asarray(back._to_wire().data).tolist() == [1, 2]


def test_a_capsule_is_used_once() -> None:
    capsule = bf16([1]).to_dlpack()
    pb_utils.Tensor.from_dlpack("OUT", capsule)
    with pytest.raises(pb_utils.TritonModelException, match=r"^The DLPack tensor cannot be used: "):
        pb_utils.Tensor.from_dlpack("OUT", capsule)


def test_a_capsule_that_is_refused_stays_as_it_was() -> None:
    capsule = bf16([1]).to_dlpack()

    class Elsewhere:
        """Says that it is on a GPU, so that NumPy refuses the capsule after it has been asked for."""

        def __dlpack__(self, **options: Any) -> Any:
            return capsule

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    shape_rank_place = ctypes.pythonapi.PyCapsule_GetPointer
    shape_rank_place.argtypes, shape_rank_place.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_void_p
    device_type = ctypes.c_int32.from_address(shape_rank_place(capsule, b"dltensor") + 8)
    device_type.value = 2
    with pytest.raises(pb_utils.TritonModelException, match=r"^The DLPack tensor cannot be used: "):
        pb_utils.Tensor.from_dlpack("OUT", Elsewhere())
    assert type_in(capsule) == (4, 16, 1)


def test_an_empty_name() -> None:
    with pytest.raises(pb_utils.TritonModelException, match=r"^Tensor name cannot be an empty string\.$"):
        pb_utils.Tensor.from_dlpack("", bf16([1]).to_dlpack())


def test_versioned_capsules_are_understood() -> None:
    if np.lib.NumpyVersion(np.__version__) < "2.1.0":
        pytest.skip("this NumPy makes no versioned capsules")
    bits = np.array([1, 2], np.uint16)

    class Newer:
        def __dlpack__(self, **options: Any) -> Any:
            capsule = bits.__dlpack__(max_version=(1, 0))
            code = dlpack._dtype_of(capsule)
            assert code is not None
            assert (code.code, code.bits, code.lanes) == (1, 16, 1)
            code.code = 4
            return capsule

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    back = pb_utils.Tensor.from_dlpack("OUT", Newer())
    assert back.triton_dtype() == DataType.BF16.config_number
    assert np.asarray(back._to_wire().data).tolist() == [1, 2]


@pytest.mark.parametrize("consumed", [False, True])
def test_nothing_is_kept(consumed: bool) -> None:
    owner = np.array([1, 2], np.uint16)
    tensor = bf16(owner)
    gc.collect()
    before = sys.getrefcount(owner)
    for _ in range(MANY):
        capsule = tensor.to_dlpack()
        if consumed:
            pb_utils.Tensor.from_dlpack("OUT", capsule)
    del capsule
    assert sys.getrefcount(owner) == before


def test_what_was_taken_outlives_its_maker() -> None:
    taken = [pb_utils.Tensor.from_dlpack("OUT", bf16(np.full(100, i, np.uint16)).to_dlpack()) for i in range(MANY)]
    gc.collect()
    assert all((np.asarray(item._to_wire().data) == i).all() for i, item in enumerate(taken))
