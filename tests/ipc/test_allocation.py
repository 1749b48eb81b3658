"""Memory of large blocks that is used again, measured by the kernel's count of page faults."""

import subprocess
import sys

import pytest

from tensorhub.ipc import allocation

_FAULTS = """
import resource
from tensorhub.ipc.allocation import keep_large_blocks

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        held = [bytes(16_000_000) for _ in range(3)]
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

assert keep_large_blocks()
faults()
print(faults())
"""


def test_the_pages_of_large_blocks_are_not_paid_for_again() -> None:
    told = subprocess.run([sys.executable, "-c", _FAULTS], check=True, capture_output=True, text=True)
    assert int(told.stdout) < 3 * 16_000_000 // 4096, "as many as the blocks have pages, once and not eight times"


@pytest.mark.parametrize(
    "chosen",
    [{"GLIBC_TUNABLES": "a=b:glibc.malloc.trim_threshold=1"}, {"MALLOC_MMAP_THRESHOLD_": "9"}],
)
def test_what_the_user_has_chosen_stays(chosen: dict[str, str]) -> None:
    assert not allocation.keep_large_blocks(chosen)
