"""The files in `etc`: they agree with each other and with the commands that there are."""

import re
import tomllib
from configparser import ConfigParser
from pathlib import Path

import pytest

from tensorhub import settings
from tests.serving import PROJECT

ETC = PROJECT / "etc"
UNITS = sorted((ETC / "systemd").iterdir())


def test_the_options_file_is_accepted_also_with_its_comments_made_lines(tmp_path: Path) -> None:
    path = ETC / "tensorhub" / "tensorhub.toml"
    assert settings.load([f"--config={path}"], {}).repository.model_repository == ("/var/lib/tensorhub/models",)
    everything = re.sub(r"^#(?=[a-z0-9-]+ = )", "", path.read_text(), flags=re.MULTILINE)
    for name, value in tomllib.loads(everything).items():
        option = settings.OPTIONS[name]
        assert option.repeatable == isinstance(value, list), name
        settings.parse([], {}, {name: value})


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_run_commands_that_there_are(unit: Path) -> None:
    text = unit.read_text()
    setup = ConfigParser()
    setup.read(PROJECT / "setup.cfg")
    scripts = {line.split(" = ")[0] for line in setup["options.entry_points"]["console_scripts"].split("\n") if line}
    commands = re.findall(r"^ExecStart=/opt/tensorhub/bin/(\S+)", text, re.MULTILINE)
    assert set(commands) <= scripts | {"gunicorn"}
    assert bool(commands) == unit.name.endswith(".service")
    for option in re.findall(r" --([a-z-]+)=", text):
        assert option in settings.OPTIONS
    if commands:
        assert "TENSORHUB_RUN_DIR=/run/tensorhub" in text
        assert "PartOf=tensorhub.target" in text


def test_units_user_and_run_directory_are_made() -> None:
    assert (ETC / "sysusers.d" / "tensorhub.conf").read_text().splitlines()[-1].startswith("u tensorhub ")
    assert "d /run/tensorhub 0700 tensorhub tensorhub" in (ETC / "tmpfiles.d" / "tensorhub.conf").read_text()
    for unit in UNITS:
        if unit.suffix == ".service":
            assert "\nUser=tensorhub\n" in unit.read_text()


def test_the_target_wants_units_that_there_are() -> None:
    names = {unit.name for unit in UNITS}
    target = (ETC / "systemd" / "tensorhub.target").read_text()
    for wanted in re.findall(r"tensorhub-\S+\.service", target):
        assert re.sub(r"@[^.]*", "@", wanted) in names
