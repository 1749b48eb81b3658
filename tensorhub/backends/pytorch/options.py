"""The model parameters of Triton's PyTorch backend. Pure."""

from dataclasses import dataclass
from typing import Any

from tensorhub.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class TorchOptions:
    """How a program is run.

    Attributes:
        inference_mode: without gradients and their book-keeping; otherwise only without gradients.
        optimized: the program is optimised in its first runs, which take longer.
        shares_weights: the instances on one device are one program.
        cleans_cache: give GPU memory back after each run.
        cudnn: may be used.
        intra_op_threads, inter_op_threads: of the process; 0 leaves PyTorch's.
        jit_profiling, jit_executor, tensor_fuser: switches of TorchScript's compiler; None leaves them.
    """

    inference_mode: bool = True
    optimized: bool = True
    shares_weights: bool = False
    cleans_cache: bool = False
    cudnn: bool = True
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    jit_profiling: bool | None = None
    jit_executor: bool | None = None
    tensor_fuser: bool | None = None

    @staticmethod
    def from_config(config: Any) -> "TorchOptions":
        """Read an `inference.ModelConfig`.

        Raises:
            InvalidArgument: a parameter has a value that it cannot have.
        """
        return TorchOptions(
            inference_mode=_flag(config, "INFERENCE_MODE", True),
            optimized=not _flag(config, "DISABLE_OPTIMIZED_EXECUTION", False),
            shares_weights=_flag(config, "ENABLE_WEIGHT_SHARING", False),
            cleans_cache=_flag(config, "ENABLE_CACHE_CLEANING", False),
            cudnn=not _flag(config, "DISABLE_CUDNN", False),
            intra_op_threads=_count(config, "INTRA_OP_THREAD_COUNT"),
            inter_op_threads=_count(config, "INTER_OP_THREAD_COUNT"),
            jit_profiling=_maybe_flag(config, "ENABLE_JIT_PROFILING"),
            jit_executor=_maybe_flag(config, "ENABLE_JIT_EXECUTOR"),
            tensor_fuser=_maybe_flag(config, "ENABLE_TENSOR_FUSER"),
        )


def _text(config: Any, name: str) -> str | None:
    return str(config.parameters[name].string_value) if name in config.parameters else None


def _maybe_flag(config: Any, name: str) -> bool | None:
    text = _text(config, name)
    if text is None:
        return None
    if text.lower() not in ("true", "1", "false", "0"):
        raise InvalidArgument(f"failed to convert {name} '{text}' to boolean value")
    return text.lower() in ("true", "1")


def _flag(config: Any, name: str, default: bool) -> bool:
    found = _maybe_flag(config, name)
    return default if found is None else found


def _count(config: Any, name: str) -> int:
    text = _text(config, name)
    if text is None:
        return 0
    if not text.isdecimal() or int(text) == 0:
        raise InvalidArgument(f"failed to convert {name} '{text}' to a number of threads")
    return int(text)
