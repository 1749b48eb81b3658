"""Compiles protos/*.proto to the one descriptor set that ships in the package.

The set is data, not code: tensorhub/protocol/messages.py loads it into a private pool. Run `make descriptors` after a
change to protos/; `make check` compares the shipped file with the sources.
"""

import sys
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "protos").glob("*.proto"))
TARGET = ROOT / "tensorhub" / "descriptors" / "tensorhub.binpb"


def compile_to(target: Path) -> None:
    """Write the descriptor set of every file in protos/ to `target`.

    Raises:
        SystemExit: protoc found a mistake; its own words are on stderr.
    """
    bundled = resources.files("grpc_tools") / "_proto"
    arguments = [
        "protoc",
        f"-I{ROOT / 'protos'}",
        f"-I{bundled}",
        "--include_imports",
        f"--descriptor_set_out={target}",
    ]
    if protoc.main([*arguments, *map(str, SOURCES)]) != 0:
        raise SystemExit(1)


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    compile_to(TARGET)
    sys.stdout.write(f"wrote {TARGET.relative_to(ROOT)} from {len(SOURCES)} files\n")
