"""Facts that a result is worth nothing without: which machine, which commit. Edge: reads /proc and runs git."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def machine() -> str:
    """Return the processor's name, the cores this process may use, the kernel and which Python, in one line.

    Two builds of one version of Python may differ by a fifth, so it is told where this one is installed.
    """
    name = platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()} ({sys.base_prefix})"
    return f"{name}, {len(os.sched_getaffinity(0))} cores, {system}"


def commit() -> str:
    """Return the short commit of the checkout, with `+` if tracked files differ from it; `unknown` if there is none."""
    head = _git("rev-parse", "--short", "HEAD")
    if not head:
        return "unknown"
    return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
