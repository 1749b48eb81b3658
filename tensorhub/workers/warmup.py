"""Run the samples of `model_warmup` on an instance before its first client.

A sample is a batch: as many requests of one row as its batch size says, all with the same inputs. It runs as often as
its count says, on every instance, past the scheduler. What is wrong with a sample, or with the answer to it, keeps the
model from being loaded. Source: GenerateWarmupData and WarmUp in Triton's core.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorhub import bytes_codec
from tensorhub.backends.port import ModelInstance
from tensorhub.errors import InternalError, InvalidArgument, TensorhubError
from tensorhub.protocol.infer_validation import GivenInput, InputValidator, prefix
from tensorhub.protocol.model_spec import ModelSpec
from tensorhub.requests import InferRequest, InferResponse, Tensor
from tensorhub.tensors import DataType, element_count

_FOLDER = "warmup"
_EMPTY_STRING = bytes(4)
_RANDOM_STRING_SIZE = 16


@dataclass(frozen=True, slots=True)
class Sample:
    """One batch to run.

    Attributes:
        rows: requests in the batch.
        count: how often it runs.
        inputs: of the model's config, by name.
        others: inputs that no client may send, the controls of a sequence.
    """

    name: str
    rows: int
    count: int
    inputs: tuple[Tensor, ...]
    others: tuple[Tensor, ...]


def read_samples(config: Any, spec: ModelSpec, folder: Path) -> list[Sample]:
    """Return the samples of a complete `inference.ModelConfig`, with their data; those of no rows are left out.

    Args:
        folder: the model's.

    Raises:
        TensorhubError: a sample does not fit the model, or its file cannot be read.
    """
    validator = InputValidator(spec)
    return [_read_sample(item, spec, validator, folder) for item in config.model_warmup if item.batch_size]


def _read_sample(setting: Any, spec: ModelSpec, validator: InputValidator, folder: Path) -> Sample:
    given, others = [], []
    for name, item in setting.inputs.items():
        if any(dimension < 0 for dimension in item.dims):
            raise InvalidArgument(
                f"warmup setting expects all variable-size dimensions are specified for input '{name}'"
            )
    for name, item in setting.inputs.items():
        datatype = DataType.from_config(item.data_type)
        dims = tuple(item.dims)
        data = _data(name, item, datatype, element_count(dims), folder, spec.name)
        if name in spec.inputs:
            given.append(GivenInput(name, datatype.value, (1, *dims) if spec.inputs[name].batched else dims, data))
        else:
            others.append(Tensor(name, datatype, dims, data))
    inputs = validator.accept(given, (), "").inputs
    return Sample(setting.name, setting.batch_size, max(1, setting.count), tuple(inputs.values()), tuple(others))


def _data(name: str, item: Any, datatype: DataType, elements: int, folder: Path, model: str) -> bytes:
    choice = item.WhichOneof("input_data_type")
    size = elements * datatype.item_size
    if choice == "zero_data":
        return _EMPTY_STRING * elements if datatype is DataType.BYTES else bytes(size)
    if choice == "random_data":
        if datatype is DataType.BYTES:
            return bytes(bytes_codec.serialize([random.randbytes(_RANDOM_STRING_SIZE) for _ in range(elements)]))
        if datatype is DataType.BOOL:
            return bytes(random.getrandbits(1) for _ in range(elements))
        return random.randbytes(size)
    if choice != "input_data_file":
        raise InvalidArgument(f"{prefix('')}warmup setting expects input '{name}' to have input_data_type set")
    data = read_file(folder, _FOLDER, item.input_data_file, model)
    if len(data) < size:
        raise InvalidArgument(
            f"{prefix('')}warmup setting expects {size} bytes, but the data provided from {item.input_data_file}only "
            f"has {len(data)} bytes"
        )
    return data if datatype is DataType.BYTES else data[:size]


def read_file(folder: Path, kind: str, name: str, model: str) -> bytes:
    """Read a file that the config of a model names, in the folder for its kind below the model's.

    Raises:
        InternalError: it cannot be read; the text, which clients see, does not say where the model's folder is.
    """
    try:
        return (folder / kind / name).read_bytes()
    except OSError as exc:
        raise InternalError(f"failed to open text file for read {model}/{kind}/{name}: {exc.strerror}") from exc


def warm_up(instance: ModelInstance, instance_name: str, samples: Sequence[Sample], spec: ModelSpec) -> None:
    """Run the samples on an instance that nobody uses yet.

    Raises:
        InvalidArgument: a sample has failed; Triton's text, with all errors.
    """
    for sample in samples:
        for _ in range(sample.count):
            errors = _run(instance, instance_name, sample, spec)
            if errors:
                raise InvalidArgument(
                    f"failed to run warmup sample '{sample.name}': {''.join(f'{error}; ' for error in errors)}"
                )


def _run(instance: ModelInstance, instance_name: str, sample: Sample, spec: ModelSpec) -> list[str]:
    if spec.max_batch_size and sample.rows > spec.max_batch_size:
        text = f"batch size {sample.rows} for '{instance_name}', max allowed is {spec.max_batch_size}"
        return [text] * sample.rows
    errors: list[str] = []

    def note(request: InferRequest, response: InferResponse | None, final: bool) -> None:
        if response is not None and response.error is not None:
            errors.append(response.error.message)

    requests = [
        InferRequest(
            spec.name,
            spec.version,
            "",
            {tensor.name: _own(tensor) for tensor in (*sample.inputs, *sample.others)},
            responder=note,
        )
        for _ in range(sample.rows)
    ]
    try:
        instance.execute(requests)
    except TensorhubError as exc:
        return [exc.message] * len(requests)
    except BaseException as exc:
        return [f"{type(exc).__name__}: {exc}"] * len(requests)
    return errors


def _own(tensor: Tensor) -> Tensor:
    """Return a copy, since a model may write to its inputs."""
    return Tensor(tensor.name, tensor.datatype, tensor.shape, bytearray(memoryview(tensor.data)))
