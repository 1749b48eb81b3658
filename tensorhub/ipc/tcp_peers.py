"""Which process of this host is at the other end of a TCP connection, as far as /proc tells.

The kernel's table of connections gives the socket's inode, and the descriptors of a process link to it. A client in
another network namespace is not in the table, and one of another user may not be looked at: then nobody is found.
Source: proc_net_tcp in the kernel's documentation, proc(5).
"""

import ipaddress
import os
import sys
from pathlib import Path

from tensorhub.ipc.watch import start_ticks

_INODE_FIELD = 9


def find_process(peer: str) -> tuple[int, int] | None:
    """Return (pid, start ticks) of the process whose socket has the address `peer`, host:port; None if unknown."""
    inode = _inode(peer)
    if inode is None:
        return None
    wanted = f"socket:[{inode}]"
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and _has_open(folder / "fd", wanted):
            try:
                return int(folder.name), start_ticks(int(folder.name))
            except OSError:
                return None
    return None


def _has_open(folder: Path, link: str) -> bool:
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    for name in names:
        try:
            if os.readlink(f"{folder}/{name}") == link:
                return True
        except OSError:
            continue  # it has been closed
    return False


def _inode(peer: str) -> str | None:
    host, _, port = peer.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
        wanted = {f"{_hex(address)}:{int(port):04X}"}
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        wanted.add(f"{_hex(ipaddress.IPv6Address(f'::ffff:{address}'))}:{int(port):04X}")
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[1] in wanted and fields[_INODE_FIELD] != "0":
                return fields[_INODE_FIELD]
    return None


def _hex(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Print an address as the kernel does: words of four bytes, each in the machine's order."""
    packed = address.packed
    words = [int.from_bytes(packed[start : start + 4], sys.byteorder) for start in range(0, len(packed), 4)]
    return "".join(f"{word:08X}" for word in words)
