"""Which module may import which: the one table, and the check of it. Used by `make check` and by the tests. Pure.

Three rules. Imports go down only: a module imports its own layer and those below. A package imports only the packages
that REACHES names for it, so that for instance frontends and workers meet nowhere but in `ipc` and below. And every
library has few importers, so that it can be replaced there.

Sources are parsed and never imported, so that imports inside functions and under TYPE_CHECKING count as well.
"""

import ast
import sys
from collections.abc import Collection, Iterator, Mapping
from enum import IntEnum
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "tensorhub"


class Layer(IntEnum):
    """From the bottom up."""

    VOCABULARY = 0
    """Values and ports that every other layer speaks in."""
    PURE = 1
    """Bytes, values and the time in, values out: no sockets, files, threads or clocks."""
    IO = 2
    """Each module gives one thing of the outside world its place."""
    ASSEMBLY = 3
    """What makes a process out of the layers below."""
    EDGE = 4
    """What a person, a client or the operating system starts or calls. Nothing imports an edge but an edge."""


LAYERS: dict[str, Layer] = {
    "tensorhub": Layer.VOCABULARY,
    "tensorhub.__main__": Layer.EDGE,
    "tensorhub.bytes_codec": Layer.VOCABULARY,
    "tensorhub.decorator": Layer.VOCABULARY,
    "tensorhub.devices": Layer.VOCABULARY,
    "tensorhub.cuda_driver": Layer.IO,
    "tensorhub.errors": Layer.VOCABULARY,
    "tensorhub.hosting": Layer.VOCABULARY,
    "tensorhub.memory": Layer.VOCABULARY,
    "tensorhub.cache_options": Layer.VOCABULARY,
    "tensorhub.network_options": Layer.VOCABULARY,
    "tensorhub.option_groups": Layer.VOCABULARY,
    "tensorhub.option_table": Layer.VOCABULARY,
    "tensorhub.option_kinds": Layer.VOCABULARY,
    "tensorhub.ownership": Layer.VOCABULARY,
    "tensorhub.redis_link": Layer.IO,
    "tensorhub.requests": Layer.VOCABULARY,
    "tensorhub.restrictions": Layer.VOCABULARY,
    "tensorhub.run_directory": Layer.VOCABULARY,
    "tensorhub.settings": Layer.VOCABULARY,
    "tensorhub.tensors": Layer.VOCABULARY,
    "tensorhub.version": Layer.VOCABULARY,
    "tensorhub.logs": Layer.IO,
    "tensorhub.ipc.stop_signals": Layer.IO,
    "tensorhub.protocol": Layer.PURE,
    "tensorhub.ipc": Layer.IO,
    "tensorhub.ipc.arena": Layer.PURE,
    "tensorhub.ipc.wire": Layer.PURE,
    "tensorhub.ipc.zmtp": Layer.PURE,
    "tensorhub.backends": Layer.IO,
    "tensorhub.backends.calling": Layer.PURE,
    "tensorhub.backends.destinations": Layer.PURE,
    "tensorhub.backends.port": Layer.PURE,
    "tensorhub.client": Layer.IO,
    "tensorhub.client.placed": Layer.PURE,
    "tensorhub.client.tensors": Layer.PURE,
    "tensorhub.frontend": Layer.ASSEMBLY,
    "tensorhub.frontend.catalog": Layer.PURE,
    "tensorhub.frontend.port": Layer.PURE,
    "tensorhub.frontend.readiness": Layer.PURE,
    "tensorhub.frontend.routing": Layer.PURE,
    "tensorhub.hub": Layer.ASSEMBLY,
    "tensorhub.hub.actions": Layer.PURE,
    "tensorhub.hub.bequest": Layer.PURE,
    "tensorhub.hub.checking": Layer.IO,
    "tensorhub.hub.cloud": Layer.IO,
    "tensorhub.hub.cloud_paths": Layer.PURE,
    "tensorhub.hub.ensembles": Layer.PURE,
    "tensorhub.hub.function_files": Layer.IO,
    "tensorhub.hub.gatherings": Layer.PURE,
    "tensorhub.hub.inventory": Layer.PURE,
    "tensorhub.hub.lifecycle": Layer.PURE,
    "tensorhub.hub.loads": Layer.PURE,
    "tensorhub.hub.machine": Layer.IO,
    "tensorhub.hub.main": Layer.EDGE,
    "tensorhub.hub.metrics_endpoint": Layer.IO,
    "tensorhub.hub.metrics_page": Layer.PURE,
    "tensorhub.hub.models": Layer.PURE,
    "tensorhub.hub.library_threads": Layer.PURE,
    "tensorhub.hub.orders": Layer.PURE,
    "tensorhub.hub.overrides": Layer.IO,
    "tensorhub.hub.own_workers": Layer.PURE,
    "tensorhub.hub.phases": Layer.PURE,
    "tensorhub.hub.plans": Layer.PURE,
    "tensorhub.hub.repository": Layer.IO,
    "tensorhub.hub.placement": Layer.PURE,
    "tensorhub.hub.regions": Layer.PURE,
    "tensorhub.hub.restarts": Layer.PURE,
    "tensorhub.hub.runtime": Layer.PURE,
    "tensorhub.hub.state": Layer.PURE,
    "tensorhub.hub.trace_desk": Layer.PURE,
    "tensorhub.hub.trace_export": Layer.IO,
    "tensorhub.hub.trace_file": Layer.IO,
    "tensorhub.hub.statistics": Layer.PURE,
    "tensorhub.hub.worker_table": Layer.PURE,
    "tensorhub.workers": Layer.ASSEMBLY,
    "tensorhub.workers.cache": Layer.PURE,
    "tensorhub.workers.cache_entries": Layer.PURE,
    "tensorhub.workers.call_messages": Layer.PURE,
    "tensorhub.workers.check": Layer.EDGE,
    "tensorhub.workers.classification": Layer.PURE,
    "tensorhub.workers.decode": Layer.PURE,
    "tensorhub.workers.encode": Layer.PURE,
    "tensorhub.workers.lent_inputs": Layer.PURE,
    "tensorhub.workers.ensemble": Layer.PURE,
    "tensorhub.workers.history": Layer.PURE,
    "tensorhub.workers.instances": Layer.PURE,
    "tensorhub.workers.latencies": Layer.PURE,
    "tensorhub.workers.outage": Layer.PURE,
    "tensorhub.workers.launch": Layer.EDGE,
    "tensorhub.workers.main": Layer.EDGE,
    "tensorhub.workers.request_parameters": Layer.PURE,
    "tensorhub.workers.schedulers": Layer.PURE,
    "tensorhub.workers.state_outputs": Layer.PURE,
    "tensorhub.workers.serving": Layer.PURE,
    "tensorhub.workers.statistics": Layer.PURE,
    "tensorhub.workers.tensor_parameters": Layer.PURE,
    "tensorhub.cli": Layer.EDGE,
    "tensorhub.cli.program": Layer.IO,
    "tensorhub.cli.startup": Layer.PURE,
    "tensorhub.grpc": Layer.EDGE,
    "tensorhub.http": Layer.EDGE,
}
"""By module or package; the longest name that fits counts."""

REACHES: dict[str, frozenset[str]] = {
    "__main__": frozenset({"cli"}),
    "backends": frozenset({"protocol"}),
    "cli": frozenset({"client", "hub", "ipc"}),
    "cuda_driver": frozenset(),
    "client": frozenset({"cuda_driver", "protocol"}),
    "frontend": frozenset({"ipc", "protocol", "logs"}),
    "grpc": frozenset({"frontend", "ipc", "protocol", "logs"}),
    "http": frozenset({"frontend", "ipc", "protocol", "logs"}),
    "hub": frozenset({"ipc", "protocol", "logs", "redis_link"}),
    "ipc": frozenset({"protocol", "cuda_driver"}),
    "logs": frozenset(),
    "protocol": frozenset(),
    "redis_link": frozenset(),
    "workers": frozenset({"backends", "ipc", "protocol", "logs", "redis_link"}),
}
"""What each package imports besides itself and the vocabulary, which everybody may."""

EXCEPTIONS: frozenset[tuple[str, str]] = frozenset(
    {
        # The supervisor follows the start as a frontend would, from snapshots, and reads them with the same pure code.
        ("tensorhub.hub.supervisor", "tensorhub.frontend.catalog"),
        # A worker whose models call models of another worker is a client of it like any frontend.
        ("tensorhub.workers.call_messages", "tensorhub.frontend.catalog"),
        ("tensorhub.workers.call_messages", "tensorhub.frontend.port"),
        ("tensorhub.workers.calls", "tensorhub.frontend.catalog"),
        ("tensorhub.workers.calls", "tensorhub.frontend.gateway"),
        ("tensorhub.workers.calls", "tensorhub.frontend.port"),
        ("tensorhub.workers.calls", "tensorhub.frontend.readiness"),
        ("tensorhub.workers.loop", "tensorhub.frontend.gateway"),
        ("tensorhub.workers.main", "tensorhub.frontend.gateway"),
        ("tensorhub.workers.main", "tensorhub.frontend.routing"),
        # What `tensorhub serve` prints meanwhile is text of the command line, which is pure as well.
        ("tensorhub.hub.summary", "tensorhub.cli.program"),
        ("tensorhub.hub.summary", "tensorhub.cli.startup"),
        ("tensorhub.hub.summary", "tensorhub.frontend.catalog"),
    }
)
"""(importer, imported) that the two tables above do not allow and that are right all the same, each with its reason."""

LIBRARIES: dict[str, tuple[str, ...]] = {
    "a2wsgi": ("tensorhub.http.wsgi",),
    "cupy": ("tensorhub.ipc.cuda_shm",),
    "falcon": ("tensorhub.http",),
    "fsspec": ("tensorhub.hub.cloud",),
    "google": (
        "tensorhub.protocol.messages",
        "tensorhub.protocol.config_text",
        "tensorhub.backends.python.autocomplete",  # a model's auto_complete_config speaks in dicts: json_format
    ),
    "grpc": ("tensorhub.client.rpc", "tensorhub.client.rpc_load", "tensorhub.grpc"),
    "gunicorn": ("tensorhub.http.gunicorn_protocol", "tensorhub.http.gunicorn_worker"),
    "gunicorn_h1c": ("tensorhub.http.gunicorn_protocol", "tensorhub.hub.metrics_endpoint"),
    "numpy": (
        "tensorhub.backends",
        "tensorhub.bytes_codec",
        "tensorhub.cli.infer",
        "tensorhub.cli.inputs",
        "tensorhub.client.regions",
        "tensorhub.client.tensors",
        "tensorhub.ipc.copying",
        "tensorhub.ipc.cuda_shm",
        "tensorhub.protocol.json_tensors",
        "tensorhub.workers.classification",
        "tensorhub.workers.decode",
        "tensorhub.workers.encode",
        "tensorhub.workers.lent_inputs",
        "tensorhub.workers.request_trace",
    ),
    "matplotlib": ("tensorhub.cli.bench_report",),
    "onnxruntime": ("tensorhub.backends.onnxruntime",),
    # Besides json_text, those that write fragments of one document: a call for each fragment would show in a profile.
    "opentelemetry": ("tensorhub.hub.trace_export",),
    "orjson": (
        "tensorhub.protocol.generate",
        "tensorhub.protocol.json_parameters",
        "tensorhub.protocol.json_reply",
        "tensorhub.protocol.json_text",
        "tensorhub.protocol.json_tensors",
        "tensorhub.protocol.known_calls",
    ),
    "posix_ipc": ("tensorhub.ipc.system_shm",),
    "pynvml": ("tensorhub.hub.machine",),
    "rapidjson": ("tensorhub.protocol.json_text",),
    "redis": ("tensorhub.redis_link",),
    "torch": ("tensorhub.backends.pytorch",),
    "uvloop": ("tensorhub.http",),
    "zmq": ("tensorhub.ipc.hub_line",),
}
"""By top-level name: the modules or packages that import it."""

IMPURE = frozenset(
    {"asyncio", "fcntl", "mmap", "multiprocessing", "select", "selectors", "signal", "socket", "subprocess"}
    | {"threading", "time"}
)
"""Modules of the standard library that have no place in the layer PURE."""


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Return every module of the package under `root`, by its full name."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def layer_of(module: str) -> Layer | None:
    """Return the layer of a module, or None if the table does not have it.

    The root is an entry for itself alone: a new module or package at the top must be put into the table.
    """
    name = module
    while name != PACKAGE:
        if name in LAYERS:
            return LAYERS[name]
        name = name.rpartition(".")[0]
    return LAYERS[PACKAGE] if module == PACKAGE else None


def check(sources: Mapping[str, str], exceptions: Collection[tuple[str, str]] = EXCEPTIONS) -> list[str]:
    """Return what breaks the table, one line for each import.

    Args:
        sources: the text of every module of the package, by full name.
        exceptions: (importer, imported) that are not reported.
    """
    found: list[str] = []
    for module, source in sources.items():
        layer = layer_of(module)
        if layer is None:
            found.append(f"{module}: is not in the table of layers")
            continue
        for line, imported in sorted(set(_imports(ast.parse(source), sources))):
            reason = _objection(module, layer, imported)
            if reason and (module, imported) not in exceptions:
                found.append(f"{module}:{line}: imports {imported}: {reason}")
    return found


def check_tree(root: Path = ROOT) -> list[str]:
    """Check the files under `root`; see `check`."""
    return check(read_tree(root))


def read_tree(root: Path = ROOT) -> dict[str, str]:
    """Return the text of every module of the package under `root`, by its full name."""
    return {module: path.read_text() for module, path in modules(root).items()}


def _objection(module: str, layer: Layer, imported: str) -> str:
    top = imported.partition(".")[0]
    if not top:
        return "relative imports hide the layer; write the full name"
    if top == PACKAGE:
        return _objection_inside(module, layer, imported)
    if top in sys.stdlib_module_names:
        return "not in the layer PURE" if layer is Layer.PURE and top in IMPURE else ""
    allowed = LIBRARIES.get(top)
    if allowed is None:
        return "the library is not in the table"
    if not any(module == name or module.startswith(f"{name}.") for name in allowed):
        return f"only {', '.join(allowed)} may"
    return ""


def _objection_inside(module: str, layer: Layer, imported: str) -> str:
    below = layer_of(imported)
    if below is None:
        return "it is not in the table of layers"
    if below > layer:
        return f"{layer.name} may not import {below.name}"
    package, other = _package(module), _package(imported)
    if below is not Layer.VOCABULARY and other != package and other not in REACHES.get(package, frozenset()):
        return f"{package} may not import {other}"
    return ""


def _package(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def _imports(tree: ast.AST, known: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Yield (line, full name of a module) for every import, `from package import module` included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield node.lineno, name if name in known else base
        elif isinstance(node, ast.Call) and _is_import_module(node.func) and node.args:
            target = node.args[0]
            if isinstance(target, ast.Constant) and isinstance(target.value, str):
                yield node.lineno, target.value


def _is_import_module(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name == "import_module"
