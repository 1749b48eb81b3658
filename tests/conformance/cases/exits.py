"""Exceptions of a model's code that would end a thread or a program: they are errors of the request, and no more."""

from __future__ import annotations

from ..messages import grpc_infer, grpc_tensor, infer, strings, tensor
from ..steps import Case, Http

_KINDS = ("system", "system_text", "keyboard", "generator", "cancelled", "own")

_LOAD = Http("POST", "/v2/repository/models/exits/load", b"{}")
_UNLOAD = Http("POST", "/v2/repository/models/exits/unload", b"{}")


def _ask(kind: str) -> Http:
    return infer("exits", [tensor("KIND", "BYTES", [1], [kind])])


CASES = tuple(
    Case(
        f"exits-{kind}",
        (
            _LOAD,
            _ask(kind),
            _ask("ok"),
            grpc_infer("exits", [grpc_tensor("KIND", "BYTES", [1])], [strings(kind.encode())]),
            _ask("ok"),
            Http("GET", "/v2/models/exits/ready"),
            _UNLOAD,
        ),
        server="warmup",
    )
    for kind in _KINDS
)
