"""What every DevicePort must do: run on the fake and, where there is a GPU, on CUDA.

A test class inherits it and says how another process makes memory.
"""

import mmap
import os
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tensorhub.devices import DeviceError, DevicePort
from tensorhub.errors import InvalidArgument
from tensorhub.ipc.cuda_regions import CudaSegment, HandleTable

SIZE = 1 << 16
CONTENT = bytes(range(256)) * (SIZE // 256)


class DeviceContract:
    """The tests; `port`, `allocation` and `content_of` are the maker's."""

    def allocation(self) -> AbstractContextManager[Any]:
        """Memory of another process with CONTENT; `.handle` is its handle and `.content` what it has now."""
        raise NotImplementedError

    def to_host(self, array: Any) -> Any:
        """The array of a port as one of NumPy."""
        raise NotImplementedError

    def table(self, port: DevicePort) -> HandleTable:
        return HandleTable(lambda: port)

    def test_devices(self, port: DevicePort) -> None:
        devices = port.devices()
        assert [device.ordinal for device in devices] == list(range(len(devices)))
        assert all(device.uuid.startswith("GPU-") and len(device.uuid) == 40 for device in devices)
        for device in devices:
            port.wait(device.ordinal)

    def test_memory_of_another_process(self, port: DevicePort) -> None:
        table = self.table(port)
        with self.allocation() as made:
            segment = CudaSegment.open(table, "r", made.handle, 0, SIZE)
            assert segment.uuid == port.devices()[0].uuid
            assert segment.memory(0, SIZE).to_host() == CONTENT
            assert segment.memory(1, 300).to_host() == CONTENT[1:301]
            segment.memory(16, 64).fill(memoryview(b"\xee" * 64))
            assert made.content == CONTENT[:16] + b"\xee" * 64 + CONTENT[80:]
            segment.memory(SIZE - 64, 64).fill(segment.memory(16, 64))
            assert made.content[-64:] == b"\xee" * 64
            segment.memory(16, 64).fill(segment.memory(16, 64))
            segment.memory(16, 64).fill(memoryview(b""))
            segment.memory(16, 64).fill(segment.memory(0, 0))
            assert segment.memory(16, 0).to_host() == b""
            with pytest.raises(ValueError, match="65 bytes into 64"):
                segment.memory(16, 64).fill(memoryview(bytes(65)))
            segment.close()
            segment.close()

    def test_one_open_for_each_handle(self, port: DevicePort) -> None:
        table = self.table(port)
        with self.allocation() as made:
            first = table.open("a", made.handle, 0)
            second = table.open("b", made.handle, 7)
            assert first is second
            assert first.count == 2
            table.release(first)
            assert CudaSegment.open(table, "c", made.handle, 0, SIZE).memory(0, 1).to_host() == CONTENT[:1]
            table.release(second)

    @pytest.mark.parametrize("length", [0, 1, 63, 65, 128])
    def test_handles_of_another_length(self, port: DevicePort, length: int) -> None:
        with pytest.raises(InvalidArgument, match=f"a CUDA handle has 64 bytes, this one has {length}"):
            self.table(port).open("r", bytes(length), 0)

    def test_what_is_no_handle(self, port: DevicePort) -> None:
        table = self.table(port)
        with pytest.raises(
            InvalidArgument, match=r"^failed to register shared memory region 'r': invalid args\."
        ) as caught:
            table.open("r", os.urandom(64), 3)
        assert "The client calls the device 3; the worker's are 0 = GPU-" in caught.value.message
        assert "HandleTable 0 handles" in repr(table)

    @pytest.mark.parametrize("byte_size", [0, SIZE * 1024, 2**63, 2**64 - 1])
    def test_regions_larger_than_their_allocation(self, port: DevicePort, byte_size: int) -> None:
        table = self.table(port)
        with self.allocation() as made:
            for _ in range(50):
                with pytest.raises(InvalidArgument, match="and its allocation has"):
                    CudaSegment.open(table, "r", made.handle, 0, byte_size)
            assert "HandleTable 0 handles" in repr(table)

    def test_locked_pages(self, port: DevicePort) -> None:
        """They are the host's memory as before, for all copies."""
        table = self.table(port)
        with self.allocation() as made, mmap.mmap(-1, 4 * mmap.PAGESIZE) as pages:
            segment = CudaSegment.open(table, "r", made.handle, 0, SIZE)
            with memoryview(pages) as view:
                for _ in range(2):
                    unlock = port.lock_pages(view)
                    with pytest.raises(DeviceError):
                        port.lock_pages(view)
                    segment.memory(0, 1000).read_into(view)
                    assert bytes(view[100:1000]) == CONTENT[100:1000]
                    view[:3] = b"abc"
                    segment.memory(64, 3).fill(view[:3])
                    assert made.content[64:67] == b"abc"
                    unlock()
                with pytest.raises(ValueError, match="1000 bytes into 999"):
                    segment.memory(0, 1000).read_into(view[:999])
            segment.close()

    def test_arrays_are_the_memory(self, port: DevicePort) -> None:
        table = self.table(port)
        with self.allocation() as made:
            segment = CudaSegment.open(table, "r", made.handle, 0, SIZE)
            array = port.array(segment.memory(0, 64), (4, 4), "<f4")
            assert self.to_host(array).tobytes() == CONTENT[:64]
            assert array.__dlpack_device__() == (2, 0)
            del array
            segment.close()

    def test_memory_of_its_own(self, port: DevicePort) -> None:
        made = port.allocate(0, 64)
        assert made.allocated
        made.fill(memoryview(bytes(range(64))))
        copy = made.copy()
        made.fill(memoryview(bytes(64)))
        assert copy.to_host() == bytes(range(64))
        array = port.array(copy, (64,), "u1")
        del copy
        assert self.to_host(array).tobytes() == bytes(range(64)), "who has an array of it has the memory"

    def test_errors_of_the_driver(self, port: DevicePort) -> None:
        with pytest.raises(DeviceError):
            port.open_handle(0, bytes(64))
