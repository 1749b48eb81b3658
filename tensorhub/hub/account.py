"""What the hub answers for of the memory that is shared with clients, beside the workers (`ipc.holdings`).

The registered regions are the hub's. What was made for an output is its worker's, until that dies: a client that has
taken it keeps it, and then it counts here. What outputs have made regions larger by is asked of the files
(`ipc.growth`).
"""

from collections.abc import Callable

from tensorhub.ipc.holdings import Holdings
from tensorhub.ipc.node import Node
from tensorhub.option_groups import SharedMemory

_MOST = 2**64 - 1


class NoAccount:
    """Of a server that makes no regions for outputs: its registered regions are all that there is."""

    def registered(self, count: int, byte_size: int) -> tuple[int, int]:
        """See SharedAccount."""
        return 0, 0

    def grown(self) -> int:
        """See SharedAccount."""
        return 0

    def inherited(self, count: int, byte_size: int) -> None:
        """See SharedAccount."""

    def close(self) -> None:
        """See SharedAccount."""


class SharedAccount:
    """See the module. For the hub's loop."""

    def __init__(self, holdings: Holdings, files_grown: Callable[[], int]) -> None:
        """Begin; `holdings` is closed at the end.

        Args:
            files_grown: tells by how many bytes the files of registered regions have become larger.
        """
        self._holdings = holdings
        self._files_grown = files_grown

    def registered(self, count: int, byte_size: int) -> tuple[int, int]:
        """Note what is registered; return number and bytes of what was made for outputs.

        Raises:
            Unavailable: that cannot be told now; it is noted all the same.
        """
        own = self._holdings.own._replace(registered=count, registered_byte_size=min(byte_size, _MOST))
        self._holdings.write(own)
        others = self._holdings.others()
        return own.handed_out + others.handed_out, own.handed_out_byte_size + others.handed_out_byte_size

    def grown(self) -> int:
        """Return by how many bytes registered regions have become larger, or are about to."""
        growing = self._holdings.others().growing_byte_size  # read before the files' sizes
        return growing + self._files_grown()

    def inherited(self, count: int, byte_size: int) -> None:
        """Note what clients still have of what dead workers made."""
        own = self._holdings.own
        self._holdings.write(own._replace(handed_out=count, handed_out_byte_size=byte_size))

    def close(self) -> None:
        """Answer for nothing any more."""
        self._holdings.close()


def open_account(node: Node, options: SharedMemory, files_grown: Callable[[], int]) -> SharedAccount | NoAccount:
    """Return the account of this hub; without --shm-socket nothing is made for outputs, or made larger for them."""
    return SharedAccount(Holdings(node.run_dir, node.pid), files_grown) if options.shm_socket else NoAccount()
