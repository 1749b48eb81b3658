"""Requests that a model wants to be run again."""

from pathlib import Path

import pytest

from tests.backends.python_models import CONFIG, Answers, error_of, infer_request, instance, run

ITERATIVE = (
    "max_batch_size: 4\n" + CONFIG.replace("dims: -1", "dims: 1") + "sequence_batching { iterative_sequence: true }"
)
ITERATIVE_DECOUPLED = ITERATIVE + "model_transaction_policy { decoupled: true }"
CODE = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
        return {answer}
"""


@pytest.mark.parametrize(
    ("config", "answer"), [(ITERATIVE, "[None]"), (ITERATIVE, "None"), (ITERATIVE_DECOUPLED, "None")]
)
def test_an_iterative_sequence_is_run_again(tmp_path: Path, config: str, answer: str) -> None:
    answers = Answers()
    request = infer_request(answers)
    instance(tmp_path, CODE.format(answer=answer), config).execute([request])
    assert answers.responses == []
    assert request.rescheduled
    assert request.deferred


def test_nothing_else_is(tmp_path: Path) -> None:
    error = error_of(run(instance(tmp_path, CODE.format(answer="[None]"))))
    assert "Unable to reschedule the request: the model does not use iterative sequence batching" in error.message


def test_a_response_beside_it_is_an_error(tmp_path: Path) -> None:
    code = CODE.format(answer="[pb_utils.InferenceResponse([])]")
    error = error_of(run(instance(tmp_path, code, ITERATIVE)))
    assert error.message.endswith(
        "Expected a None object in the execute function return list for reschduled request, found type "
        "'<class 'c_python_backend_utils.InferenceResponse'>'."
    )
