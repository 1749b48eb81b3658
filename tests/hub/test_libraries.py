"""What workers find in their environment for their libraries."""

import pytest

from tensorhub.hub.libraries import large_copies, library_threads


@pytest.mark.parametrize(
    ("workers", "processors", "threads"), [(1, 1, "1"), (1, 2, "1"), (1, 8, "7"), (2, 8, "3"), (16, 8, "1")]
)
def test_workers_share_what_the_frontends_leave(workers: int, processors: int, threads: str) -> None:
    assert library_threads(workers, processors, {}) == {"OMP_NUM_THREADS": threads}


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"])
def test_the_users_choice_counts(name: str) -> None:
    assert library_threads(1, 8, {name: "4"}) == {}


def test_large_copies_go_past_the_caches() -> None:
    ours = "glibc.cpu.x86_non_temporal_threshold=4194304"
    assert large_copies({}) == {"GLIBC_TUNABLES": ours}
    assert large_copies({"GLIBC_TUNABLES": "glibc.malloc.check=3"}) == {
        "GLIBC_TUNABLES": f"glibc.malloc.check=3:{ours}"
    }
    assert large_copies({"GLIBC_TUNABLES": "glibc.cpu.x86_non_temporal_threshold=1"}) == {}
