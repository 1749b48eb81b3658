"""What may stand in no file: paths of one machine. And in the package: ways to run received bytes, open sockets. Pure.

The messages between the processes are data. Nothing may turn bytes into code, whoever sent them, and the sockets that
carry the messages must not be reachable from another machine or another user.
"""

import ast
import re
from collections.abc import Iterator

_MACHINE_PATH = re.compile(rb"(?<![\w./])/(?:work|root)/")

_CODE_FROM_BYTES = frozenset({"cloudpickle", "dill", "jsonpickle", "marshal", "pickle", "shelve"})
_SHARED_MEMORY = "multiprocessing.shared_memory"
_RUNS_CODE = frozenset({"eval", "exec"})
_ENDPOINT = "ipc://"

MAY_RUN_CODE = frozenset(
    {
        "tensorhub/backends/python/loading.py",  # runs the model.py files of the operator's own repository
    }
)


def in_any_file(content: bytes) -> Iterator[str]:
    """Yield what a file of the project may not hold, with its line."""
    for match in _MACHINE_PATH.finditer(content):
        line = content.count(b"\n", 0, match.start()) + 1
        yield f"{line}: a path of one machine: {match[0].decode()}"


def in_module(path: str, source: str) -> Iterator[str]:
    """Yield what a module of the package may not do, with its line.

    Args:
        path: relative to the project's root, with slashes.
    """
    tree = ast.parse(source)
    names = list(_imported(tree))
    for line, name in names:
        if name.partition(".")[0] in _CODE_FROM_BYTES:
            yield f"{line}: {name} runs what it reads"
        elif f"{name}.".startswith(f"{_SHARED_MEMORY}."):
            yield f"{line}: {name} unlinks segments of other processes; use ipc.system_shm"
    uses_zmq = any(name.partition(".")[0] == "zmq" for _, name in names)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Name) and function.id in _RUNS_CODE and path not in MAY_RUN_CODE:
            yield f"{node.lineno}: {function.id} runs what it is given"
        elif uses_zmq and _opens_socket(function) and not _literal_start(node.args).startswith(_ENDPOINT):
            yield f"{node.lineno}: a ZeroMQ endpoint that does not begin with {_ENDPOINT}"


def _imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def _opens_socket(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and function.attr in ("bind", "connect")


def _literal_start(arguments: list[ast.expr]) -> str:
    """Return the text that the first argument surely begins with, if it is a string or an f-string."""
    if not arguments:
        return ""
    value = arguments[0]
    if isinstance(value, ast.JoinedStr) and value.values:
        value = value.values[0]
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""
