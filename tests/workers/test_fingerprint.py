"""What makes two models the same for a cache that outlives them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tensorhub.protocol import messages
from tensorhub.workers.fingerprint import model_fingerprint

CONFIG = messages.ModelConfig(name="m", max_batch_size=4)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "m"
    (folder / "1" / "weights").mkdir(parents=True)
    (folder / "1" / "model.py").write_text("one")
    (folder / "1" / "weights" / "w").write_bytes(b"w")
    (folder / "labels.txt").write_text("a\nb")
    return folder


def of(folder: Path, version: int = 1) -> str:
    return model_fingerprint(str(folder), version, CONFIG)


def test_a_copy_elsewhere_at_another_time_is_the_same(model: Path) -> None:
    copied = shutil.copytree(model, model.parent / "elsewhere")
    assert of(model) == of(copied)
    assert len(of(model)) == 32


@pytest.mark.parametrize("path", ["1/model.py", "1/weights/w", "labels.txt", "1/new", "helpers/new.py"])
def test_every_file_counts(model: Path, path: str) -> None:
    before = of(model)
    (model / path).parent.mkdir(exist_ok=True)
    (model / path).write_text("changed")
    assert of(model) != before


def test_the_name_of_a_file_counts(model: Path) -> None:
    before = of(model)
    (model / "1" / "model.py").rename(model / "1" / "other.py")
    assert of(model) != before


def test_version_and_config_count(model: Path) -> None:
    shutil.copytree(model / "1", model / "2")
    before = of(model)
    assert of(model, 2) != before
    assert model_fingerprint(str(model), 1, messages.ModelConfig(name="m", max_batch_size=5)) != before


def test_other_versions_and_bytecode_do_not_count(model: Path) -> None:
    before = of(model)
    for folder in ("2", "1/__pycache__"):
        (model / folder).mkdir()
        (model / folder / "x").write_text("x")
    assert of(model) == before


def test_links_are_followed_and_loops_are_not(model: Path) -> None:
    outside = model.parent / "outside"
    outside.mkdir()
    (outside / "data").write_text("one")
    (model / "1" / "linked").symlink_to(outside)
    (model / "1" / "loop").symlink_to(model)
    (model / "1" / "dangling").symlink_to(model.parent / "nothing")
    before = of(model)
    (outside / "data").write_text("two")
    assert of(model) != before


def test_what_cannot_be_read_is_an_error(model: Path) -> None:
    (model / "1" / "special").symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match="Input/output error"):
        of(model)
