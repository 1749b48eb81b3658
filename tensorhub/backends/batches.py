"""Several requests as one, for models that compute on whole batches: inputs are put together, outputs shared out.

    requests     IN (2, 4)   IN (1, 4)            rows 2, 1
    model        IN (3, 4)  ->  OUT (3, 5)
    responses    OUT (2, 5)  OUT (1, 5)

Inputs that may be ragged are laid end to end, and *batch inputs* tell the model where each begins. Pure.
Source of the kinds: ModelConfig's BatchInput and BatchOutput, and Triton's BackendInputCollector.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorhub.backends.arrays import NUMPY_TYPES, Array, array_of
from tensorhub.backends.port import ComputeTimes
from tensorhub.errors import InternalError, InvalidArgument, TensorhubError
from tensorhub.requests import InferRequest
from tensorhub.tensors import DataType, element_count

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BatchInput:
    """An input that is made of the shapes of another one.

    Attributes:
        kind: name of ModelConfig's BatchInput.Kind.
        names: under which the model hears it; they are all the same.
        source: the input whose shapes it tells.
    """

    kind: str
    names: tuple[str, ...]
    datatype: DataType
    source: str


@dataclass(frozen=True, slots=True)
class ScatteredOutput:
    """A flat output of which each request gets as many elements as its shape holds.

    Attributes:
        dims: of the config, with the batch dimension; those that are -1 are the source input's.
    """

    source: str
    dims: Shape


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """How requests of one model become a batch.

    Attributes:
        batches: the first dimension of every tensor counts rows; without it, requests are run one by one.
        ragged: inputs that are laid end to end.
    """

    batches: bool
    ragged: frozenset[str] = frozenset()
    batch_inputs: tuple[BatchInput, ...] = ()
    scattered: dict[str, ScatteredOutput] | None = None

    @staticmethod
    def from_config(config: Any) -> "BatchPlan":
        """Read a complete, validated `inference.ModelConfig`."""
        batches = config.max_batch_size > 0
        outputs = {item.name: item for item in config.output}
        return BatchPlan(
            batches,
            frozenset(item.name for item in config.input if item.allow_ragged_batch),
            tuple(
                BatchInput(
                    item.Kind.Name(item.kind),
                    tuple(item.target_name),
                    DataType.from_config(item.data_type),
                    item.source_input[0],
                )
                for item in config.batch_input
            ),
            {
                name: ScatteredOutput(item.source_input[0], ((-1,) if batches else ()) + tuple(outputs[name].dims))
                for item in config.batch_output
                for name in item.target_name
            },
        )

    def execute(
        self, requests: Sequence[InferRequest], run: Callable[[Sequence[InferRequest]], ComputeTimes]
    ) -> ComputeTimes | None:
        """Run requests together as far as they go together; what is wrong with one is the error of that one alone.

        Args:
            run: runs and answers requests, or raises InvalidArgument if one of them cannot be run, or another error.

        Raises:
            TensorhubError: what a run of all of them has raised.
        """
        times = None
        runs = self.runs(requests)
        while runs:
            together = runs.pop(0)
            try:
                times = run(together)
            except InvalidArgument as exc:
                if len(requests) == 1:
                    raise
                if len(together) > 1:
                    runs += [[request] for request in together]
                else:
                    together[0].fail(exc)
            except TensorhubError as exc:
                if len(together) == len(requests):
                    raise
                for request in together:
                    request.fail(exc)
        return times

    def runs(self, requests: Sequence[InferRequest]) -> list[Sequence[InferRequest]]:
        """Return what is to be run together: all of a batch, or each of them alone if the model does not batch.

        A client may leave the batch dimension out, by saying that it is 0: that goes together with nothing else.
        """
        if len(requests) == 1:
            return [requests]
        if not self.batches:
            return [[request] for request in requests]
        groups: dict[frozenset[tuple[str, int]], list[InferRequest]] = {}
        for request in requests:
            ranks = frozenset([(name, len(tensor.shape)) for name, tensor in request.inputs.items()])
            groups.setdefault(ranks, []).append(request)
        return [requests] if len(groups) == 1 else list(groups.values())

    def collect(self, requests: Sequence[InferRequest], leave_out: Collection[str] = frozenset()) -> dict[str, Array]:
        """Return the model's inputs by name: views of the one request's, or copies of all of them together.

        Args:
            leave_out: inputs that the model gets in another way.

        Raises:
            InternalError: the requests have different inputs.
        """
        names = list(requests[0].inputs)
        if any(request.inputs.keys() != requests[0].inputs.keys() for request in requests[1:]):
            raise InternalError("requests with different inputs cannot be run as one batch")
        feeds: dict[str, Array] = {}
        for name in names:
            if name in leave_out:
                continue
            parts = [array_of(request.inputs[name]) for request in requests]
            if name in self.ragged:
                feeds[name] = np.concatenate([part.ravel() for part in parts]) if len(parts) > 1 else parts[0].ravel()
            else:
                feeds[name] = np.concatenate(parts) if len(parts) > 1 else parts[0]
        for item in self.batch_inputs:
            value = made_of_shapes(item, [request.inputs[item.source].shape for request in requests])
            feeds.update(dict.fromkeys(item.names, value))
        return feeds

    def share(self, name: str, array: Array, requests: Sequence[InferRequest]) -> list[Array]:
        """Return each request's part of an output, as views.

        Raises:
            InternalError: the model has returned other than as many rows, or elements, as the requests have.
        """
        if self.scattered and name in self.scattered:
            return self._scatter(name, array, requests)
        if len(requests) == 1 and not self.batches:
            return [array]
        rows = [request.batch_size for request in requests]
        if array.ndim == 0 or len(array) != sum(rows):
            raise InternalError(
                f"failed to split the output tensor '{name}' in responses: expected batch size of at least {sum(rows)} "
                f"in model output, got {len(array) if array.ndim else 0}"
            )
        if len(rows) == 1:
            return [array]
        parts, begin = [], 0
        for count in rows:
            parts.append(array[begin : begin + count])
            begin += count
        return parts

    def _scatter(self, name: str, array: Array, requests: Sequence[InferRequest]) -> list[Array]:
        assert self.scattered is not None
        target = self.scattered[name]
        flat, parts, begin = array.ravel(), [], 0
        for request in requests:
            given = request.inputs[target.source].shape
            shape = tuple(
                given[index] if dimension == -1 and index < len(given) else dimension
                for index, dimension in enumerate(target.dims)
            )
            end = begin + element_count(shape)
            if end > flat.size:
                raise InternalError(
                    f"output '{name}' has {flat.size} elements, fewer than the shapes of input '{target.source}' say"
                )
            parts.append(flat[begin:end].reshape(shape))
            begin = end
        return parts


def made_of_shapes(item: BatchInput, shapes: Sequence[Shape]) -> Array:
    """Compute a batch input from the shapes of its source, one for each request, with their batch dimensions.

    Raises:
        InternalError: the kind is unknown.
    """
    dtype = NUMPY_TYPES[item.datatype]
    counts = [element_count(shape) for shape in shapes]
    if item.kind == "BATCH_ELEMENT_COUNT":
        return np.array(counts, dtype)
    if item.kind == "BATCH_ACCUMULATED_ELEMENT_COUNT":
        return np.cumsum(counts).astype(dtype)
    if item.kind == "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO":
        return np.cumsum([0, *counts]).astype(dtype)
    if item.kind == "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE":
        return np.zeros(max(counts), dtype)
    if item.kind in ("BATCH_ITEM_SHAPE", "BATCH_ITEM_SHAPE_FLATTEN"):
        value = np.array([shape[1:] for shape in shapes for _ in range(shape[0])], dtype)
        return value.ravel() if item.kind.endswith("FLATTEN") else value
    raise InternalError(f"batch input kind '{item.kind}' is not known")
