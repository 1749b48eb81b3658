"""A conda environment made of this interpreter and a small package, packed by conda-pack.

No conda and no channel is needed: an environment is a folder that holds a Python and `conda-meta`, and conda-pack looks
for the packages' files, and for the paths in them, in the package cache, as it does after an installation.
"""

import hashlib
import json
import shutil
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import conda_pack

PLACEHOLDER = "/opt/" + "placehold_" * 25
"""What packages have where the prefix belongs; as long as in those of conda, so that any prefix fits in a binary."""

_VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
_NOT_NEEDED = ("__pycache__", "test", "tests", "site-packages", "dist-packages", "idlelib", "tkinter", "turtledemo")
_NOT_NEEDED_EITHER = ("ensurepip", "lib2to3", "pydoc_data", "config-*")


def pack(work: Path, *, with_python: bool) -> Path:
    """Make an environment with the package `things` in a folder, and return its archive.

    Args:
        with_python: whether it has a Python of its own, else its bin/python is a link to this one.
    """
    prefix = work / "prefix"
    _install(work, "python", sysconfig.get_python_version() + ".0", _copy_python if with_python else _link_python)
    _install(work, "things", "1.0", _things)
    (prefix / "conda-meta" / "history").touch()
    archive = work / "packed.tar.gz"
    conda_pack.pack(prefix=str(prefix), output=str(archive), compress_level=1)
    return archive


def _install(work: Path, name: str, version: str, fill: Callable[[Path], None]) -> None:
    """Make a package in the package cache, and put it into the prefix."""
    package, prefix = work / "pkgs" / f"{name}-{version}-0", work / "prefix"
    package.mkdir(parents=True)
    fill(package)
    shutil.copytree(package, prefix, symlinks=True, dirs_exist_ok=True)
    paths = []
    for path in sorted(package.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        entry = {"_path": str(path.relative_to(package)), "path_type": "softlink" if path.is_symlink() else "hardlink"}
        if not path.is_symlink():
            data = path.read_bytes()
            entry["sha256"] = hashlib.sha256(data).hexdigest()
            if PLACEHOLDER.encode() in data:
                binary = b"\0" in data
                entry |= {"prefix_placeholder": PLACEHOLDER, "file_mode": "binary" if binary else "text"}
                filling = (len(PLACEHOLDER) - len(str(prefix))) * b"\0" if binary else b""
                changed = data.replace(PLACEHOLDER.encode(), str(prefix).encode()) + filling
                (prefix / path.relative_to(package)).write_bytes(changed)
        paths.append(entry)
    (package / "info").mkdir()
    (package / "info" / "paths.json").write_text(json.dumps({"paths": paths, "paths_version": 1}))
    (prefix / "conda-meta").mkdir(exist_ok=True)
    record = {"name": name, "version": version, "build": "0", "url": "", "files": [entry["_path"] for entry in paths]}
    record["link"] = {"source": str(package), "type": 1}
    (prefix / "conda-meta" / f"{name}-{version}-0.json").write_text(json.dumps(record))


def _copy_python(package: Path) -> None:
    ignored = shutil.ignore_patterns(*_NOT_NEEDED, *_NOT_NEEDED_EITHER)
    shutil.copytree(sysconfig.get_path("stdlib"), package / "lib" / _VERSION, symlinks=True, ignore=ignored)
    (package / "bin").mkdir()
    shutil.copy2(Path(sys.base_prefix, "bin", _VERSION), package / "bin" / _VERSION)
    for name in ("python", "python3"):
        (package / "bin" / name).symlink_to(_VERSION)
    shared = Path(sysconfig.get_config_var("LIBDIR") or "/none", sysconfig.get_config_var("INSTSONAME") or "none")
    if shared.is_file() and ".so" in shared.name:
        shutil.copy2(shared, package / "lib" / shared.name)


def _link_python(package: Path) -> None:
    (package / "bin").mkdir()
    (package / "bin" / "python").symlink_to(sys.executable)


def _things(package: Path) -> None:
    """A module, scripts for the activation, and the prefix in each kind of file that conda-pack tells apart."""
    site_packages = package / "lib" / _VERSION / "site-packages"
    site_packages.mkdir(parents=True)
    (site_packages / "only_there.py").write_text("ANSWER = 42\n")
    for word, line in (("activate", 'export THINGS_DATA="$CONDA_PREFIX/share/things"'), ("deactivate", "")):
        folder = package / "etc" / "conda" / f"{word}.d"
        folder.mkdir(parents=True)
        (folder / "things.sh").write_text(f"{line}\n")
    data = package / "share" / "things"
    data.mkdir(parents=True)
    (data / "where.txt").write_text(f"{PLACEHOLDER}/share/things\n")
    (data / "where.bin").write_bytes(b"\x7f" + f"{PLACEHOLDER}/share/things\0".encode())
    (package / "bin").mkdir()
    program = package / "bin" / "things"
    program.write_text(f"#!{PLACEHOLDER}/bin/python\nimport sys\nprint(sys.prefix)\n")
    program.chmod(0o755)
