"""The options that only workers have."""

import pytest

from tensorhub.settings import SettingsError
from tensorhub.workers.own_options import OwnOptions, split


@pytest.mark.parametrize(
    ("argv", "own", "others"),
    [
        ([], OwnOptions(), []),
        (["--name", "cpu3"], OwnOptions(name="cpu3"), []),
        (["--name=gpu0", "--gpu=GPU-1"], OwnOptions(name="gpu0", gpu="GPU-1"), []),
        (["--name=a", "--name=b"], OwnOptions(name="b"), []),
        (["--refusal", "--no such file=x"], OwnOptions(refusal="--no such file=x"), []),
        (["--refusal="], OwnOptions(), []),
        (["--environment=e.tar.gz", "--log-info", "x"], OwnOptions(environment="e.tar.gz"), ["--log-info", "x"]),
        (["--names=1", "name", "-name", "--"], OwnOptions(), ["--names=1", "name", "-name", "--"]),
        (["--run-dir=/a", "--gpu", "G", "--help"], OwnOptions(gpu="G"), ["--run-dir=/a", "--help"]),
    ],
)
def test_split(argv: list[str], own: OwnOptions, others: list[str]) -> None:
    assert split(argv) == (own, others)


@pytest.mark.parametrize("name", ["--name", "--environment", "--refusal", "--gpu"])
def test_a_value_is_missing(name: str) -> None:
    with pytest.raises(SettingsError, match=f"'{name}' requires an argument"):
        split(["--log-info=1", name])
