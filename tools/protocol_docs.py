"""Write what docs/protocol.md says of endpoints, methods, options and differences from the tables in the code.

    python -m tools.protocol_docs

The page has blocks between `<!-- NAME -->` and `<!-- end of NAME -->`, and each is written here; the rest is by hand.
`make check` compares the blocks with what would be written.
"""

import re
import sys
from collections.abc import Callable, Iterator

from tensorhub import settings
from tensorhub.grpc.routes import SERVICES, category
from tensorhub.http.routes import generate_target, infer_target, routes
from tensorhub.protocol import messages
from tensorhub.protocol.openapi import OPERATIONS, Operation
from tests.conformance.differences import DELIBERATE_DIFFERENCES
from tools.layers import ROOT
from tools.triton_options import TRITON_OPTIONS

PAGE = ROOT / "docs" / "protocol.md"

_SHOWN_CASES = 3

_NOTES = {
    "Load a model, or load it again": "with `--model-control-mode=explicit`",
    "Unload a model": "with `--model-control-mode=explicit`",
    "Register a region of system shared memory": "for clients that `--allow-client-shm` allows",
    "Register a region of CUDA shared memory": "for clients that `--allow-client-shm` allows",
}
"""What there is to say of an operation, by its summary."""


def operations() -> Iterator[str]:
    """Yield the table of HTTP's operations."""
    yield "| operation | restricted as | what | now |"
    yield "|---|---|---|---|"
    for operation in OPERATIONS:
        path = operation.path.replace("{model}", "M").replace("{region}", "R")
        if operation.versioned:
            path = path.replace("/M", "/M[/versions/V]", 1)
        state = "served" if _is_served(operation) else "not served: 404"
        note = _NOTES.get(operation.summary, "")
        yield (
            f"| `{operation.method} {path}` | {operation.category.value} | {operation.summary} "
            f"| {state}{', ' if note else ''}{note} |"
        )


def _is_served(operation: Operation) -> bool:
    path = operation.path.replace("{model}", "M").replace("{region}", "R")
    if infer_target(path.encode()) or generate_target(path.encode()):
        return True
    route = next((route for route in routes() if route.pattern.fullmatch(path)), None)
    return route is not None and operation.method in route.responders


def methods() -> Iterator[str]:
    """Yield the table of gRPC's methods; there is none that could not be served."""
    yield "| method | restricted as | now |"
    yield "|---|---|---|"
    for service in SERVICES:
        for method in messages.service(service).methods:
            yield f"| `{service}/{method.name}` | {category(service, method.name).value} | served |"


def options() -> Iterator[str]:
    """Yield which of Triton's options have no effect, and why."""
    ignored = [item for item in settings.OPTIONS.values() if item.ignored]
    total = len(TRITON_OPTIONS)
    without = [item for item in ignored if item.name in TRITON_OPTIONS]
    yield f"All {total} options of `tritonserver` are accepted ([options](options.md)). {len(without)} have no effect,"
    yield "which is warned of at the start:"
    yield ""
    yield "| option | why |"
    yield "|---|---|"
    for item in ignored:
        yield f"| `--{item.name}` | {item.ignored} |"


def differences() -> Iterator[str]:
    """Yield the deliberate differences: each reason, and the cases that show it."""
    by_reason: dict[str, list[str]] = {}
    for case, difference in DELIBERATE_DIFFERENCES.items():
        by_reason.setdefault(difference.reason, []).append(case)
    for reason, cases in by_reason.items():
        shown = ", ".join(f"`{case}`" for case in cases[:_SHOWN_CASES])
        more = f" and {len(cases) - _SHOWN_CASES} more" if len(cases) > _SHOWN_CASES else ""
        yield f"- {reason} ({shown}{more})"


BLOCKS: dict[str, Callable[[], Iterator[str]]] = {
    "operations": operations,
    "methods": methods,
    "options": options,
    "differences": differences,
}


def written(page: str) -> str:
    """Return the page with all blocks as they should be.

    Raises:
        ValueError: a block has no place in the page.
    """
    for name, block in BLOCKS.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        if len(pattern.findall(page)) != 1:
            raise ValueError(f"docs/protocol.md has to have <!-- {name} --> and <!-- end of {name} -->, once")
        text = "\n".join(["", *block(), "", ""])
        page = pattern.sub(lambda match, text=text: match[1] + text + match[2], page)  # type: ignore[misc]
    return page


def is_fresh() -> bool:
    """Whether the page says what the tables say."""
    page = PAGE.read_text()
    return written(page) == page


def main() -> int:
    """Write the page."""
    PAGE.write_text(written(PAGE.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
