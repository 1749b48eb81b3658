"""Whether an ensemble fits the models of its steps."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import text_format

from tensorhub.errors import InvalidArgument
from tensorhub.protocol import messages
from tensorhub.protocol.config_steps import check_steps


def config(text: str, name: str = "e") -> Any:
    result = messages.ModelConfig(name=name)
    text_format.Parse(text, result)
    return result


PLAIN = config(
    """input { name: "I" data_type: TYPE_INT32 dims: [ -1, 2 ] }
    input { name: "J" data_type: TYPE_INT32 dims: 1 optional: true }
    output { name: "O" data_type: TYPE_INT32 dims: [ -1, 2 ] }""",
    "plain",
)
BATCHED = config(
    """max_batch_size: 4 input { name: "I" data_type: TYPE_INT32 dims: 2 }
    output { name: "O" data_type: TYPE_INT32 dims: 2 }""",
    "batched",
)
STREAM = config(
    """input { name: "I" data_type: TYPE_INT32 dims: [ -1, 2 ] }
    output { name: "O" data_type: TYPE_INT32 dims: [ -1, 2 ] }
    output { name: "P" data_type: TYPE_INT32 dims: [ -1, 2 ] }
    model_transaction_policy { decoupled: true }""",
    "stream",
)
PAIR = config(
    """input { name: "I" data_type: TYPE_INT32 dims: [ -1, 2 ] }
    input { name: "J" data_type: TYPE_INT32 dims: [ -1, 2 ] }
    output { name: "O" data_type: TYPE_INT32 dims: [ -1, 2 ] }""",
    "pair",
)
MODELS = {item.name: item for item in (PLAIN, BATCHED, STREAM, PAIR)}

IN_OUT = """input { name: "IN" data_type: TYPE_INT32 dims: [ -1, 2 ] }
output { name: "OUT" data_type: TYPE_INT32 dims: [ -1, 2 ] } """


def step(model: str, inputs: str, outputs: str) -> str:
    """`inputs` and `outputs` are `I=tensor` after each other."""
    maps = [("input_map", pair) for pair in inputs.split()] + [("output_map", pair) for pair in outputs.split()]
    fields = "".join(
        f' {kind} {{ key: "{pair.partition("=")[0]}" value: "{pair.partition("=")[2]}" }}' for kind, pair in maps
    )
    return f'step {{ model_name: "{model}"{fields} }} '


def ensemble(*steps: str, tensors: str = IN_OUT) -> Any:
    return config(f'platform: "ensemble" {tensors} ensemble_scheduling {{ {"".join(steps)} }}')


def test_it_fits() -> None:
    assert not check_steps(ensemble(step("plain", "I=IN", "O=MID"), step("plain", "I=MID", "O=OUT")), MODELS)


def test_rows_may_be_a_dimension_for_who_does_not_batch() -> None:
    assert not check_steps(ensemble(step("batched", "I=IN", "O=MID"), step("plain", "I=MID", "O=OUT")), MODELS)


def test_it_is_decoupled_if_a_step_is() -> None:
    assert check_steps(ensemble(step("stream", "I=IN", "O=MID"), step("plain", "I=MID", "O=OUT")), MODELS)


def test_two_outputs_of_one_decoupled_step_go_together() -> None:
    assert check_steps(ensemble(step("stream", "I=IN", "O=A P=B"), step("pair", "I=A J=B", "O=OUT")), MODELS)


def test_reshaped_inputs_and_outputs_count() -> None:
    tensors = """input { name: "IN" data_type: TYPE_INT32 dims: 4 reshape { shape: [ 2, 2 ] } }
    output { name: "OUT" data_type: TYPE_INT32 dims: 4 reshape { shape: [ 2, 2 ] } }"""
    assert not check_steps(ensemble(step("plain", "I=IN", "O=OUT"), tensors=tensors), MODELS)


@pytest.mark.parametrize(
    ("steps", "tensors", "text"),
    [
        (
            [step("batched", "I=IN", "O=OUT")],
            f"max_batch_size: 8 {IN_OUT}",
            "ensemble e allows maximum batch size 8, but it contains model batched which only allows maximum batch "
            "size to be 4",
        ),
        (
            [step("plain", "I=IN X=IN", "O=OUT")],
            IN_OUT,
            "in ensemble e, ensemble tensor IN is mapping to non-existing input X in model plain",
        ),
        ([step("pair", "I=IN", "O=OUT")], IN_OUT, "in ensemble e, input J in model pair is not mapped to any"),
        (
            [step("plain", "I=IN", "X=OUT")],
            IN_OUT,
            "in ensemble e, ensemble tensor OUT is mapped from non-existing output X in model plain",
        ),
        (
            [step("plain", "I=IN", "O=OUT")],
            IN_OUT.replace("TYPE_INT32", "TYPE_FP32", 1),
            "in ensemble e, ensemble tensor IN: inconsistent data type: TYPE_FP32 is inferred from model e while "
            "TYPE_INT32 is inferred from model plain",
        ),
        (
            [step("plain", "I=IN", "O=OUT")],
            IN_OUT.replace("-1, 2", "3"),
            r"in ensemble e, ensemble tensor IN: inconsistent shape: \[3\] is inferred from model e while \[-1,2\] is "
            "inferred from model plain",
        ),
        (
            [step("stream", "I=IN", "O=A"), step("pair", "I=A J=IN", "O=OUT")],
            IN_OUT,
            "in ensemble e, step of model 'e' receives inputs originated from different decoupled models",
        ),
        (
            [step("stream", "I=IN", "O=A"), step("stream", "I=IN", "O=B"), step("pair", "I=A J=B", "O=OUT")],
            IN_OUT,
            "in ensemble e, step of model 'e' receives inputs originated from different decoupled models",
        ),
    ],
)
def test_it_does_not_fit(steps: list[str], tensors: str, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        check_steps(ensemble(*steps, tensors=tensors), MODELS)
