"""Inputs and arguments of PyTorch programs, without PyTorch."""

from typing import Any

import pytest
from google.protobuf import text_format

from tensorhub.backends.pytorch.naming import Arguments, Calling, arrange
from tensorhub.backends.pytorch.options import TorchOptions
from tensorhub.backends.registry import find_backend
from tensorhub.errors import InvalidArgument
from tensorhub.protocol import messages


def config(*inputs: str, outputs: tuple[str, ...] = ("Y",), text: str = "") -> Any:
    result = messages.ModelConfig(name="m")
    text_format.Parse(text, result)
    for target, names in ((result.input, inputs), (result.output, outputs)):
        for name in names:
            target.add(name=name, data_type=11, dims=[1])
    return result


@pytest.mark.parametrize(
    ("found", "arguments", "expected"),
    [
        (config("b", "a"), Arguments(("a", "b")), Calling(("a", "b"), {}, False, {"Y": 0})),
        (config("I__1", "I__0"), Arguments(("a", "b")), Calling(("I__0", "I__1"), {}, False, {"Y": 0})),
        (config("p", "q"), Arguments(("a", "b")), Calling(("p", "q"), {}, False, {"Y": 0})),
        (config("b", "a"), Arguments(("a",), ("b",)), Calling(("a",), {"b": "b"}, False, {"Y": 0})),
        (config("I__1", "I__0"), Arguments(("a",), ("b",)), Calling(("I__0",), {"b": "I__1"}, False, {"Y": 0})),
        (config("k", "l"), Arguments(("a",), (), takes_dict=True), Calling(("k", "l"), {}, True, {"Y": 0})),
        (
            config("a", outputs=("P__2", "Q__0")),
            Arguments(("a",)),
            Calling(("a",), {}, False, {"P__2": 2, "Q__0": 0}),
        ),
        (config("a", outputs=("P__2", "Q")), Arguments(("a",)), Calling(("a",), {}, False, {"P__2": 0, "Q": 1})),
    ],
)
def test_arranging(found: Any, arguments: Arguments, expected: Calling) -> None:
    assert arrange(found, arguments) == expected


def test_too_many_inputs() -> None:
    with pytest.raises(InvalidArgument, match="configuration expects 2 inputs, model provides 1"):
        arrange(config("a", "b"), Arguments(("a",)))


def test_options() -> None:
    text = """
        parameters { key: "INFERENCE_MODE" value { string_value: "false" } }
        parameters { key: "DISABLE_OPTIMIZED_EXECUTION" value { string_value: "1" } }
        parameters { key: "DISABLE_CUDNN" value { string_value: "true" } }
        parameters { key: "INTER_OP_THREAD_COUNT" value { string_value: "3" } }
        parameters { key: "ENABLE_TENSOR_FUSER" value { string_value: "0" } }
    """
    expected = TorchOptions(inference_mode=False, optimized=False, cudnn=False, inter_op_threads=3, tensor_fuser=False)
    assert TorchOptions.from_config(config(text=text)) == expected
    assert TorchOptions.from_config(config()) == TorchOptions()


def test_a_missing_library_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    for backend, library, extra in (("pytorch", "torch", "torch"), ("onnxruntime", "onnxruntime", "onnx")):
        monkeypatch.setitem(__import__("sys").modules, library, None)
        monkeypatch.delitem(__import__("sys").modules, f"tensorhub.backends.{backend}.backend", raising=False)
        find_backend.__globals__["_find"].cache_clear()
        with pytest.raises(InvalidArgument, match=rf"install it with: pip install 'tensorhub\[{extra}\]'"):
            find_backend(backend)
    find_backend.__globals__["_find"].cache_clear()
