"""What is asked of NVIDIA's driver: in which context, and what its errors become. On a driver that is none."""

import ctypes
import re
from collections.abc import Callable
from typing import Any

import pytest

from tensorhub.cuda_driver import Driver
from tensorhub.devices import DeviceError

BASE, SIZE, POOLED = 0x7000_0000, 4096, 0x9000_0000
_CONTEXT, _ORDINAL, _CAPABLE = 1, 9, 10
_INVALID_VALUE, _INVALID_CONTEXT = 1, 201


class FakeLibrary:
    """libcuda with one allocation of GPU 1, made in a context that no thread has as its own, and one of a pool.

    Attributes:
        contexts: those that have been pushed and not popped.
        fails: the error of every call but those about errors, 0 for none.
    """

    def __init__(self) -> None:
        self.contexts: list[int] = []
        self.fails = 0

    def __getitem__(self, name: str) -> Callable[..., int]:
        if self.fails and name != "cuGetErrorName":
            return lambda *arguments: self.fails
        words = re.findall("[A-Z][a-z]+", name)
        found: Callable[..., int] = getattr(self, "_".join(words).lower())
        return found

    def init(self, flags: Any) -> int:
        return 0

    def device_get(self, device: Any, ordinal: Any) -> int:
        device._obj.value = ordinal.value
        return 0 if ordinal.value < 2 else 101

    def device_get_uuid(self, raw: Any, device: Any) -> int:
        raw._obj[:] = [device.value] * 16
        return 0

    def pointer_get_attribute(self, value: Any, attribute: Any, pointer: Any) -> int:
        if not BASE <= pointer.value < BASE + SIZE and pointer.value != POOLED:
            return _INVALID_VALUE
        pooled = pointer.value == POOLED
        value._obj.value = {_CONTEXT: 0 if pooled else 77, _ORDINAL: 1, _CAPABLE: 0 if pooled else 1}[attribute.value]
        return 0

    def ctx_push_current(self, context: Any) -> int:
        self.contexts.append(context.value)
        return 0

    def ctx_pop_current(self, context: Any) -> int:
        context._obj.value = self.contexts.pop()
        return 0

    def mem_get_address_range(self, base: Any, byte_size: Any, pointer: Any) -> int:
        if self.contexts != [77]:
            return _INVALID_CONTEXT
        base._obj.value, byte_size._obj.value = BASE, SIZE
        return 0

    def ipc_get_mem_handle(self, raw: Any, pointer: Any) -> int:
        if self.contexts != [77]:
            return _INVALID_CONTEXT
        raw._obj[:] = range(64)
        return 0

    def get_error_name(self, status: Any, text: Any) -> int:
        names = {_INVALID_CONTEXT: b"CUDA_ERROR_INVALID_CONTEXT", 700: b"CUDA_ERROR_ILLEGAL_ADDRESS"}
        text._obj.value = names.get(status.value)
        return 0 if status.value in names else _INVALID_VALUE


@pytest.fixture
def library() -> FakeLibrary:
    return FakeLibrary()


def test_an_allocation_is_asked_about_in_its_own_context(library: FakeLibrary) -> None:
    """Whoever asks, and whatever GPU his thread uses."""
    driver = Driver(library)
    assert driver.extent(BASE + 100) == (BASE, SIZE)
    assert driver.handle(BASE) == bytes(range(64))
    assert library.contexts == [], "the thread has what it had before"
    assert driver.device_of(BASE) == 1
    assert driver.can_share(BASE)
    assert not driver.can_share(POOLED)
    assert driver.uuid(1) == "GPU-01010101-0101-0101-0101-010101010101"


def test_errors_have_their_name(library: FakeLibrary) -> None:
    driver = Driver(library)
    with pytest.raises(
        DeviceError, match=r"cuMemGetAddressRange_v2 failed with CUDA error 201 \(CUDA_ERROR_INVALID_CO"
    ):
        driver.extent(POOLED)
    with pytest.raises(DeviceError, match=r"^cuPointerGetAttribute failed with CUDA error 1$"):
        driver.can_share(1)
    with pytest.raises(DeviceError, match=r"^cuDeviceGet failed with CUDA error 101$"):
        driver.uuid(2)
    assert library.contexts == []


@pytest.mark.parametrize(("status", "poisoned"), [(1, False), (201, False), (2, False), (700, True), (719, True)])
def test_errors_that_are_the_end_of_a_process(library: FakeLibrary, status: int, poisoned: bool) -> None:
    driver = Driver(library)
    library.fails = status
    for ask in (lambda: driver.extent(BASE), lambda: driver.uuid(0), lambda: driver.handle(BASE)):
        with pytest.raises(DeviceError) as caught:
            ask()
        assert caught.value.poisoned is poisoned


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensorhub.cuda_driver._LIBRARY", "libcuda-that-is-not-there.so.1")
    with pytest.raises(DeviceError, match=r"^NVIDIA's driver cannot be loaded: "):
        Driver()


def test_arguments_are_as_wide_as_the_drivers() -> None:
    """A pointer that is passed as an int loses its upper half."""
    assert ctypes.sizeof(ctypes.c_void_p) == ctypes.sizeof(ctypes.c_uint64) == ctypes.sizeof(ctypes.c_size_t) == 8
