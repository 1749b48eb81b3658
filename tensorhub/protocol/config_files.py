"""The files that a model configuration names, and the rule for those that a request names. Pure.

What the operator writes into a model's folder may lead wherever he wants, by links or by "..": Triton follows both. A
configuration that comes with a request may name files of the model's folder alone.
"""

from collections.abc import Iterator
from typing import Any

from tensorhub.errors import InvalidArgument


class LeadsOut(InvalidArgument):
    """A request names a file that could lie outside of the model's folder."""


def named_files(config: Any) -> Iterator[tuple[str, str]]:
    """Yield field and path of each file that an `inference.ModelConfig` names."""
    yield "default_model_filename", config.default_model_filename
    for name in config.cc_model_filenames.values():
        yield "cc_model_filenames", name
    for name in config.model_operations.op_library_filename:
        yield "op_library_filename", name
    for output in config.output:
        yield "label_filename", output.label_filename
    for sample in config.model_warmup:
        for item in sample.inputs.values():
            yield "input_data_file", item.input_data_file
    for state in config.sequence_batching.state:
        for initial in state.initial_state:
            yield "data_file", initial.data_file


def check_stays_inside(config: Any) -> None:
    """Check the configuration of a request.

    SAFETY: these paths are joined to the model's folder and opened, so none of them is absolute or goes up.

    Raises:
        LeadsOut: a file that it names could lie outside of the model's folder.
    """
    for field, path in named_files(config):
        if path.startswith("/") or ".." in path.split("/") or "\0" in path:
            raise LeadsOut(
                f"the configuration of the request names a file with {field}: {path!r}, which leads out of the model's "
                "folder; name one inside of it, or write the configuration into the repository"
            )
