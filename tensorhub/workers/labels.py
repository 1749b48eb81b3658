"""Labels of the classes of outputs: from the label files of a model, and those that an ensemble has from its steps.

An output of an ensemble has the labels of its own label file, or else those of the step that makes it, which may be an
ensemble too. They are looked up when somebody asks for classes: the step may be on another worker, and another load of
its model may have other labels. Source: LabelProvider in Triton's core.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorhub.errors import InternalError, TensorhubError
from tensorhub.protocol import model_config
from tensorhub.workers.ensemble import EnsembleGraph


def read_labels(config: Any, folder: Path) -> dict[str, list[str]]:
    """Read the label files of the outputs, one label a line.

    Raises:
        InternalError: a file is not there, or is no text.
    """
    labels = {}
    for output in config.output:
        if output.label_filename:
            path = folder / output.label_filename
            try:
                # Lines end at a line feed and nowhere else; what is before it belongs to the label, as in Triton.
                labels[output.name] = path.read_bytes().decode().removesuffix("\n").split("\n")
            except (OSError, UnicodeDecodeError) as exc:
                reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
                raise InternalError(
                    f"failed to open text file for read {config.name}/{output.label_filename}: {reason}"
                ) from exc
    return labels


class StepLabels(Mapping[str, Sequence[str]]):
    """The labels of an ensemble's outputs, by the outputs' names. Thread-safe: what it remembers are values.

    Args:
        own: from the ensemble's label files.
        find: returns the version of a model that a step reaches, as `frontend.catalog.ServedVersion`, or raises
            TensorhubError.
    """

    def __init__(self, graph: EnsembleGraph, own: Mapping[str, Sequence[str]], find: Callable[[str, int], Any]) -> None:
        self._graph = graph
        self._own = own
        self._find = find
        self._read: dict[int, Mapping[str, Sequence[str]]] = {}

    def __getitem__(self, output: str) -> Sequence[str]:
        if output in self._own:
            return self._own[output]
        index = self._graph.producers.get(output)
        if index is None:
            raise KeyError(output)
        step = self._graph.steps[index]
        name = next(name for name, tensor in step.outputs.items() if tensor == output)
        try:
            return self._of(self._find(step.model, step.version))[name]
        except TensorhubError:
            raise KeyError(output) from None

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._graph.outputs if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _of(self, target: Any) -> Mapping[str, Sequence[str]]:
        """Return the labels of one load of a step's model."""
        found = self._read.get(target.load_id)
        if found is None:
            found = read_labels(target.config, Path(target.path))
            if model_config.is_ensemble(target.config):
                found = StepLabels(EnsembleGraph.from_config(target.config), found, self._find)
            if len(self._read) > len(self._graph.steps):
                self._read.clear()
            self._read[target.load_id] = found
        return found
