"""What a worker remembers of its answers: least recently used first out, within a budget of bytes. Pure.

A key is the load and a digest of the inputs: names, datatypes, shapes and bytes. A reloaded model has another load, so
that it never answers with what the one before it said. As in Triton, parameters, ids, priorities and timeouts are not
part of the key: a model whose answers depend on those must not be cached. Outputs that a client has listed are not part
of it either, but an entry is only found if it has what is wanted: a request for one output leaves an entry that answers
no request for another. A cache that outlives the worker has the same entries and digests (`redis_entries`).

Entries are copies, and what is found is a copy again, so that whoever gets it may write to it.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from tensorhub.devices import DeviceMemory
from tensorhub.requests import InferRequest, InferResponse, Parameter, Tensor, flat_view

ENTRY_OVERHEAD = 512
"""Bytes that an entry is taken to cost besides its tensors, so that very many small ones keep to the budget too."""

TENSOR_OVERHEAD = 256
"""The same for each tensor."""


class CacheKey(NamedTuple):
    """What decides about an answer."""

    load_id: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One answer.

    Attributes:
        outputs: their data are `bytes` of our own.
        complete: it has all outputs that the model gives for these inputs, not just those that somebody wanted.
    """

    outputs: tuple[Tensor, ...]
    parameters: Mapping[str, Parameter]
    complete: bool

    @property
    def byte_size(self) -> int:
        """What it costs of the budget."""
        return ENTRY_OVERHEAD + sum(TENSOR_OVERHEAD + len(flat_view(tensor.data)) for tensor in self.outputs)

    def has(self, wanted: frozenset[str]) -> bool:
        """Tell whether it answers a request for these outputs; none: all."""
        return self.complete or (bool(wanted) and wanted <= {tensor.name for tensor in self.outputs})

    def response(self) -> InferResponse:
        """Return the answer, in memory of its own."""
        return InferResponse(
            [Tensor(item.name, item.datatype, item.shape, bytearray(item.data)) for item in self.outputs],
            dict(self.parameters),
        )


def maybe_digest(request: InferRequest) -> bytes | None:
    """Return the digest of a request's inputs; None if it cannot be cached: an input is in the memory of a GPU."""
    digest = sha256()
    for name, tensor in sorted(request.inputs.items()):
        if type(tensor.data) is DeviceMemory:
            return None
        data = flat_view(tensor.data)
        # The lengths make it impossible for two different requests to feed the same bytes.
        head = repr((name, tensor.datatype.value, tuple(tensor.shape), len(data))).encode()
        digest.update(len(head).to_bytes(4, "little"))
        digest.update(head)
        digest.update(data)
    return digest.digest()


def maybe_entry(
    response: InferResponse, wanted: frozenset[str], all_outputs: frozenset[str], *, keeps_parameters: bool = True
) -> CacheEntry | None:
    """Return a copy of an answer to keep; None for an error, or for outputs in the memory of a GPU.

    Args:
        wanted: the outputs that the client listed; none: all.
        all_outputs: the names of the model's outputs.
        keeps_parameters: those of the response belong to the answer.
    """
    if response.error is not None or any(type(tensor.data) is DeviceMemory for tensor in response.outputs):
        return None
    outputs = tuple(
        [Tensor(item.name, item.datatype, item.shape, bytes(flat_view(item.data))) for item in response.outputs]
    )
    complete = not wanted or wanted >= all_outputs or {item.name for item in outputs} >= all_outputs
    return CacheEntry(outputs, dict(response.parameters) if keeps_parameters else {}, complete)


class ResponseCache:
    """The entries of all models of a worker. Not thread-safe: `caching.SharedCache` is.

    Args:
        byte_size: the budget.

    Attributes:
        used: bytes of the budget that are taken.
        evictions: entries that had to make room for others.
    """

    def __init__(self, byte_size: int) -> None:
        self.byte_size = byte_size
        self.used = 0
        self.evictions = 0
        self._entries: OrderedDict[CacheKey, CacheEntry] = OrderedDict()

    def __repr__(self) -> str:
        return f"<ResponseCache {len(self._entries)} entries, {self.used} of {self.byte_size} bytes>"

    def __len__(self) -> int:
        return len(self._entries)

    def maybe_find(self, key: CacheKey, wanted: frozenset[str]) -> CacheEntry | None:
        """Return the entry that answers a request, which is the most recently used one from now on."""
        entry = self._entries.get(key)
        if entry is None or not entry.has(wanted):
            return None
        self._entries.move_to_end(key)
        return entry

    def insert(self, key: CacheKey, entry: CacheEntry) -> bool:
        """Keep an entry, in the place of the one with the same key; others go as far as there is need.

        Returns:
            False if it is larger than the budget: nothing has changed.
        """
        size = entry.byte_size
        if size > self.byte_size:
            return False
        known = self._entries.get(key)
        if known is not None:
            if known.complete:
                return True  # of two requests at once, the first one's answer stays
            self._take_out(key)
        while self.used + size > self.byte_size:
            self._take_out(next(iter(self._entries)))
            self.evictions += 1
        self._entries[key] = entry
        self.used += size
        return True

    def forget(self, load_id: int) -> None:
        """Drop the entries of a load that has ended."""
        for key in [key for key in self._entries if key.load_id == load_id]:
            self._take_out(key)

    def _take_out(self, key: CacheKey) -> None:
        self.used -= self._entries.pop(key).byte_size
