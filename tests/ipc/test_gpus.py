"""Which GPUs the server may use."""

import pytest

from tensorhub.cuda_driver import uuid_text
from tensorhub.ipc.gpus import DISCOVERY_VARIABLE, VISIBLE_VARIABLE, Gpu, find_gpus, visible
from tests.shm.fake_device import ENVIRON, GPUS

ALL = [Gpu("GPU-aaa1"), Gpu("GPU-aab2"), Gpu("GPU-ccc3")]


@pytest.mark.parametrize(
    ("chosen", "left"),
    [
        *((None, [0, 1, 2]), ("", []), ("0", [0]), ("2,0", [2, 0]), (" 1 , 2 ", [1, 2]), ("GPU-c", [2])),
        *(("GPU-aaa1,GPU-ccc3", [0, 2]), ("GPU-aa", []), ("0,-1,2", [0]), ("0,7,1", [0]), ("1,1,2", [1])),
    ],
)
def test_what_the_variable_leaves(chosen: str | None, left: list[int]) -> None:
    assert visible(ALL, chosen) == [ALL[index] for index in left]


def test_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORHUB_FAKE_GPUS", ENVIRON["TENSORHUB_FAKE_GPUS"])
    environ = {DISCOVERY_VARIABLE: ENVIRON[DISCOVERY_VARIABLE]}
    assert [gpu.uuid for gpu in find_gpus(environ)] == list(GPUS)
    assert [gpu.uuid for gpu in find_gpus({**environ, VISIBLE_VARIABLE: "1"})] == [GPUS[1]]


def test_uuids_are_printed_as_nvidia_smi_does() -> None:
    assert uuid_text(bytes(range(16))) == "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"
