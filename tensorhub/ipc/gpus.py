"""Which GPUs this host lets the server use, found without CuPy and without touching one: for the hub and `serve`.

From the driver's files in /proc, which a container sees as far as its GPUs go; where they are not, from nvidia-smi. The
order is that of the PCI bus, which CUDA_DEVICE_ORDER=PCI_BUS_ID gives CUDA as well, and CUDA_VISIBLE_DEVICES is
respected. Source: the driver's README (proc interface), the CUDA programming guide (environment variables).
"""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

DISCOVERY_VARIABLE = "TENSORHUB_DEVICE_DISCOVERY"
"""Environment: `module:function` that returns the UUIDs of other devices, beside TENSORHUB_DEVICE_PORT."""

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"

_DRIVER = Path("/proc/driver/nvidia/gpus")
_SMI = ("nvidia-smi", "--query-gpu=uuid,name,pci.bus_id", "--format=csv,noheader")
_TIMEOUT_S = 10.0
_FIELD = re.compile(r"^(Model|GPU UUID|Bus Location):\s*(.+?)\s*$", re.MULTILINE)


class Gpu(NamedTuple):
    """A GPU; its place in the list is its ordinal."""

    uuid: str
    name: str = ""


def find_gpus(environ: Mapping[str, str] = os.environ) -> list[Gpu]:
    """Return the GPUs that the server may use, in the order of their ordinals."""
    other = environ.get(DISCOVERY_VARIABLE)
    if other:
        from importlib.metadata import EntryPoint  # not at the top: with what it imports, 3 MB

        uuids: Sequence[str] = EntryPoint("devices", other, "tensorhub.devices").load()()
        found = [Gpu(uuid) for uuid in uuids]
    else:
        found = _from_driver() or _from_smi()
    return visible(found, environ.get(VISIBLE_VARIABLE))


def visible(gpus: Sequence[Gpu], chosen: str | None) -> list[Gpu]:
    """Return those that a value of CUDA_VISIBLE_DEVICES leaves, in its order.

    Args:
        chosen: numbers and UUIDs, which may be cut short; the first that is not one ends the list. None: all.
    """
    if chosen is None:
        return list(gpus)
    found: list[Gpu] = []
    for word in filter(None, (item.strip() for item in chosen.split(","))):
        if word.isdecimal():
            matches = [gpus[int(word)]] if int(word) < len(gpus) else []
        else:
            matches = [gpu for gpu in gpus if gpu.uuid.startswith(word)]
        if len(matches) != 1 or matches[0] in found:
            break
        found.append(matches[0])
    return found


def _from_driver() -> list[Gpu]:
    found = []
    try:
        folders = sorted(_DRIVER.iterdir())
    except OSError:
        return []
    for folder in folders:
        try:
            fields = dict(_FIELD.findall((folder / "information").read_text(encoding="utf-8", errors="replace")))
        except OSError:
            continue
        uuid = fields.get("GPU UUID", "")
        # Without rights the driver shows question marks.
        if uuid and "?" not in uuid:
            found.append(Gpu(uuid, fields.get("Model", "")))
    return found


def _from_smi() -> list[Gpu]:
    if not any(os.access(os.path.join(folder, _SMI[0]), os.X_OK) for folder in os.get_exec_path()):
        return []
    import subprocess  # not at the top: hub and workers have no other use for it

    try:
        done = subprocess.run(_SMI, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[field.strip() for field in line.split(",")] for line in done.stdout.splitlines() if line.count(",") == 2]
    return [Gpu(uuid, name) for uuid, name, _ in sorted(rows, key=lambda row: row[2])]
