"""What loading a model takes of a GPU's memory, where it can be told."""

import pytest

from tensorhub.workers.device_use import DeviceUse


class Gpu:
    def __init__(self) -> None:
        self.used: int | None = 1000


def test_what_a_load_has_taken() -> None:
    gpu = Gpu()
    use = DeviceUse(lambda: gpu.used)
    for taken_before in (0, 50):
        gpu.used = 1000 + taken_before
        with use.measured() as taken:
            assert taken() == 0
            gpu.used += 200
            assert taken() == 200


def test_memory_that_others_have_given_back_meanwhile_is_not_counted() -> None:
    gpu = Gpu()
    with DeviceUse(lambda: gpu.used).measured() as taken:
        gpu.used = 10
        assert taken() == 0


def test_loads_at_the_same_time_cannot_be_told_apart() -> None:
    gpu = Gpu()
    use = DeviceUse(lambda: gpu.used)
    with use.measured() as first:
        with use.measured() as second:
            gpu.used = 1200
            assert second() == 0
        assert first() == 0
    with use.measured() as third:
        gpu.used = 1300
        assert third() == 100


def test_a_load_that_fails_is_over() -> None:
    gpu = Gpu()
    use = DeviceUse(lambda: gpu.used)
    with pytest.raises(ValueError, match="no"), use.measured():
        raise ValueError("no")
    with use.measured() as taken:
        gpu.used = 1001
        assert taken() == 1


def test_without_a_gpu_nothing_is_known() -> None:
    gpu = Gpu()
    gpu.used = None
    with DeviceUse(lambda: gpu.used).measured() as taken:
        gpu.used = 5
        assert taken() == 0
