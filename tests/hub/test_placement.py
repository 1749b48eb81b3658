"""Which workers load a model."""

from typing import Any

import pytest

from tensorhub.hub.placement import CPU, choose_workers, gpu_of_name, instances_by_device, share, worker_names
from tensorhub.protocol import messages


def _config(*groups: tuple[str, int, tuple[int, ...]]) -> Any:
    config = messages.ModelConfig()
    for kind, count, gpus in groups:
        config.instance_group.add(kind=kind, count=count, gpus=gpus)
    return config


def test_names_say_the_device() -> None:
    names = worker_names(2, 2, 2)
    assert names == {"cpu0": CPU, "cpu1": CPU, "gpu0": 0, "gpu0-1": 0, "gpu1": 1, "gpu1-1": 1}
    assert {name: gpu_of_name(name) for name in names} == names
    assert worker_names(1, 4, 0) == {"cpu0": CPU}
    assert gpu_of_name("gpux") == gpu_of_name("worker") == CPU


@pytest.mark.parametrize(
    ("groups", "wanted"),
    [
        ([], {CPU: 1}),
        ([("KIND_CPU", 3, ())], {CPU: 3}),
        ([("KIND_GPU", 2, (0, 1)), ("KIND_CPU", 1, ()), ("KIND_GPU", 1, (1,))], {0: 2, 1: 3, CPU: 1}),
        ([("KIND_MODEL", 0, ())], {CPU: 1}),
    ],
)
def test_instances_are_of_devices(groups: list[tuple[str, int, tuple[int, ...]]], wanted: dict[int, int]) -> None:
    assert instances_by_device(_config(*groups)) == wanted


def test_workers_of_the_device_with_the_least_to_carry() -> None:
    workers = worker_names(2, 2, 2)
    carry = {"gpu0": 3, "cpu0": 1}

    def chosen(wanted: dict[int, int]) -> tuple[str, ...]:
        return choose_workers(wanted, workers, lambda name: carry.get(name, 0))

    assert chosen({CPU: 1}) == ("cpu1",)
    assert chosen({CPU: 9}) == ("cpu0", "cpu1")
    assert chosen({0: 1, 1: 2}) == ("gpu0-1", "gpu1", "gpu1-1")
    assert chosen({7: 1}) == ("cpu1",), "some worker has to say what is wrong"


def test_shares_are_of_one_device() -> None:
    workers = worker_names(2, 1, 2)
    sharing = ("cpu0", "cpu1", "gpu0", "gpu0-1")
    assert [share(name, sharing, workers) for name in sharing] == [(0, 2), (1, 2), (0, 2), (1, 2)]
