"""`make check`: everything about the sources that needs no run of the server.

One line for each check, and the details at the end. All checks run, also after one has
failed. Exit status: 0 if all passed, else 1.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from tools import compile_protos, forbidden, layers, option_docs, protocol_docs

ROOT = layers.ROOT
_NOT_SOURCES = frozenset({"__pycache__", "bench-results", "build", "dist"})
_HIDDEN_SOURCES = frozenset({".ci", ".gitignore"})

Check = Callable[[], str]
"""Returns what is wrong, as text for a person; "" if nothing is."""


def _tool(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stdout + done.stderr).strip() or f"exit status {done.returncode}"


def formatting() -> str:
    """Ruff's formatter would change nothing."""
    return _tool("ruff", "format", "--check", ".")


def lint() -> str:
    """Ruff's rules, as ruff.toml chooses them."""
    return _tool("ruff", "check", "--output-format=concise", ".")


def types() -> str:
    """Mypy's strict mode; the models of the benchmark are files for servers and no part of a package."""
    return _tool("mypy", "--exclude", r"^tools/bench/(baselines/)?\w*models/", "tensorhub", "tools")


def import_layers() -> str:
    """The table of layers."""
    return "\n".join(layers.check_tree())


def descriptor_set() -> str:
    """The descriptor set in the package is the one that protos/ gives."""
    if not compile_protos.TARGET.exists():
        return "there is none; run `make descriptors`"
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / compile_protos.TARGET.name
        try:
            compile_protos.compile_to(fresh)
        except SystemExit:
            return "protos/ does not compile"
        same = _normal(fresh.read_bytes()) == _normal(compile_protos.TARGET.read_bytes())
    return "" if same else "it is not what protos/ gives; run `make descriptors`"


def _normal(descriptors: bytes) -> bytes:
    return bytes(FileDescriptorSet.FromString(descriptors).SerializeToString(deterministic=True))


def option_pages() -> str:
    """docs/options.md and the man page say what the table of options says."""
    stale = option_docs.stale()
    return f"not what the options give: {', '.join(stale)}; run `make docs`" if stale else ""


def protocol_page() -> str:
    """docs/protocol.md says what the tables of operations, methods, options and differences say."""
    return "" if protocol_docs.is_fresh() else "docs/protocol.md is not what the tables give; run `make docs`"


def forbidden_words() -> str:
    """No paths of one machine, nothing that runs received bytes, and no open sockets between the processes."""
    found = []
    for path in source_files(ROOT):
        name = path.relative_to(ROOT).as_posix()
        content = path.read_bytes()
        found += [f"{name}:{what}" for what in forbidden.in_any_file(content)]
        if name.startswith(f"{layers.PACKAGE}/") and path.suffix == ".py":
            found += [f"{name}:{what}" for what in forbidden.in_module(name, content.decode())]
    return "\n".join(found)


def source_files(folder: Path) -> Iterator[Path]:
    """Yield the project's own files, and not what tools have put beside them."""
    for path in sorted(folder.iterdir()):
        name = path.name
        if name in _NOT_SOURCES or name.endswith(".egg-info") or (name.startswith(".") and name not in _HIDDEN_SOURCES):
            continue
        if path.is_dir():
            yield from source_files(path)
        elif path.is_file():
            yield path


CHECKS: tuple[tuple[str, Check], ...] = (
    ("formatting", formatting),
    ("lint", lint),
    ("types", types),
    ("import layers", import_layers),
    ("descriptor set", descriptor_set),
    ("option pages", option_pages),
    ("protocol page", protocol_page),
    ("forbidden words", forbidden_words),
)


def main() -> int:
    """Run all checks and return the exit status."""
    failures = []
    for name, check in CHECKS:
        wrong = check()
        sys.stdout.write(f"{'FAILED' if wrong else 'ok':8}{name}\n")
        sys.stdout.flush()
        if wrong:
            failures.append((name, wrong))
    for name, wrong in failures:
        sys.stdout.write(f"\n{name}:\n{wrong}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
