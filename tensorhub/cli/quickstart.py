"""`tensorhub quickstart DIR`: write a model repository with one model, and a client for it, and say what to type next.

DIR/models/add_sub/config.pbtxt
DIR/models/add_sub/1/model.py
DIR/client.py
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tensorhub.cli.arguments import Parser
from tensorhub.cli.program import own_name

_PROG = "tensorhub quickstart"

CONFIG = """\
# The sum and the difference of two vectors. Requests are put together into batches of up to 8.
backend: "python"
max_batch_size: 8
input [
  { name: "INPUT0" data_type: TYPE_INT32 dims: [ 16 ] },
  { name: "INPUT1" data_type: TYPE_INT32 dims: [ 16 ] }
]
output [
  { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 16 ] },
  { name: "OUTPUT1" data_type: TYPE_INT32 dims: [ 16 ] }
]
"""

MODEL = '''\
"""The sum and the difference of two vectors."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        """Answer each request; the inputs are NumPy arrays of the shape [batch, 16]."""
        responses = []
        for request in requests:
            first = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            second = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
            outputs = [pb_utils.Tensor("OUTPUT0", first + second), pb_utils.Tensor("OUTPUT1", first - second)]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
'''

CLIENT = '''\
"""Ask the add_sub model for a sum and a difference, with nothing but the standard library.

    python client.py [http://127.0.0.1:8000]
"""

import json
import sys
import urllib.request

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
request = {
    "inputs": [
        {"name": "INPUT0", "datatype": "INT32", "shape": [1, 16], "data": list(range(16))},
        {"name": "INPUT1", "datatype": "INT32", "shape": [1, 16], "data": [1] * 16},
    ]
}
with urllib.request.urlopen(f"{url}/v2/models/add_sub/infer", json.dumps(request).encode()) as reply:
    for output in json.load(reply)["outputs"]:
        print(output["name"], output["data"])
'''

FILES: dict[str, str] = {
    "models/add_sub/config.pbtxt": CONFIG,
    "models/add_sub/1/model.py": MODEL,
    "client.py": CLIENT,
}


def run(argv: Sequence[str]) -> int:
    """Write the files.

    Returns:
        The exit status: 1 if the directory cannot be used.
    """
    parser = Parser(_PROG, "Write a model repository with one model, and a client for it.")
    parser.add_argument("directory", metavar="DIR", help="a directory that is empty or not there")
    directory = Path(parser.parse_args(argv).directory)
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            what = "is not empty" if directory.is_dir() else "is not a directory"
            sys.stderr.write(f"{_PROG}: {directory} {what}; name a directory that is empty or not there\n")
            return 1
        for name, text in FILES.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as exc:
        sys.stderr.write(f"{_PROG}: cannot write to {directory}: {exc.strerror}\n")
        return 1
    sys.stdout.write(next_steps(str(directory), own_name()))
    return 0


def next_steps(directory: str, program: str = "tensorhub") -> str:
    """Return what to type after the files were written to `directory`; `program`: how `tensorhub` is called."""
    place = shlex.quote(directory)
    return "\n".join(
        (
            f"Wrote {', '.join(FILES)} to {directory}.",
            "",
            "Start the server:",
            f"  {program} serve --model-repository {place}/models",
            "",
            "Then, in another terminal:",
            f"  python {place}/client.py",
            f"  {program} infer add_sub --random",
            f"  {program} status",
            "",
        )
    )
