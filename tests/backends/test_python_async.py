"""Coroutines as `execute`: what overlaps, what waits, and what becomes of errors that nobody waits for."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensorhub.backends.port import InstanceSpec, ModelInstance
from tensorhub.backends.python.backend import PythonBackend
from tensorhub.errors import InternalError, InvalidArgument
from tensorhub.requests import InferRequest, InferResponse
from tests.backends.python_models import CONFIG, infer_request, source

DEADLINE_S = 60.0
OVERLAP = CONFIG + 'parameters { key: "ASYNC_OVERLAP" value { string_value: "yes" } }'
DECOUPLED = CONFIG + "model_transaction_policy { decoupled: true }"

HEAD = """
import asyncio
import numpy as np
import triton_python_backend_utils as pb_utils

def one(value):
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([value], dtype=np.int32))])

class TritonPythonModel:
    inside = 0
    most = 0
"""
# Every call waits until three are inside: it ends only if they overlap.
MEET = """
    async def execute(self, requests):
        self.inside += 1
        while self.inside < 3:
            await asyncio.sleep(0)
        {answer}
"""


class Waiting:
    """Collects answers from any thread, and waits for them."""

    def __init__(self) -> None:
        self.responses: list[InferResponse | None] = []
        self._finals = 0
        self._changed = threading.Condition()

    def __call__(self, request: InferRequest, response: InferResponse | None, final: bool) -> None:
        with self._changed:
            self.responses.append(response)
            self._finals += final
            self._changed.notify_all()

    def wait(self, finals: int) -> list[InferResponse | None]:
        with self._changed:
            assert self._changed.wait_for(lambda: self._finals >= finals, DEADLINE_S)
            return self.responses


def load(folder: Path, text: str, config: str) -> ModelInstance:
    return PythonBackend().load(source(folder, HEAD + text, config)).new_instance(InstanceSpec("m_0_0"))


def value_of(response: InferResponse | None) -> int:
    assert response is not None
    assert response.error is None
    data: Any = response.outputs[0].data
    return int(np.frombuffer(data, np.int32)[0])


@pytest.mark.parametrize(
    ("config", "answer"),
    [
        (OVERLAP, "return [one(5)]"),
        (DECOUPLED, "requests[0].get_response_sender().send(one(5), 1)"),
    ],
)
def test_calls_overlap(tmp_path: Path, config: str, answer: str) -> None:
    model = load(tmp_path, MEET.format(answer=answer), config)
    answers = Waiting()
    for _ in range(3):
        model.execute([infer_request(answers)])
    assert [value_of(response) for response in answers.wait(3)] == [5, 5, 5]
    model.finalize()


def test_without_the_parameter_a_call_is_waited_for(tmp_path: Path) -> None:
    code = """
    async def execute(self, requests):
        self.inside += 1
        TritonPythonModel.most = max(self.most, self.inside)
        await asyncio.sleep(0.001)
        self.inside -= 1
        return [one(self.most)]
    """
    model = load(tmp_path, code, CONFIG)
    answers = Waiting()
    for number in range(3):
        model.execute([infer_request(answers)])
        assert len(answers.responses) == number + 1
    assert [value_of(response) for response in answers.responses] == [1, 1, 1]
    model.finalize()


@pytest.mark.parametrize(
    ("config", "line", "text"),
    [
        (OVERLAP, "raise ValueError('late')", "ValueError: late"),
        (DECOUPLED, "raise ValueError('late')", "ValueError: late"),
        (OVERLAP, "return 5", "Expected a list in the execute return"),
        (DECOUPLED, "return 5", "the execute function must return None"),
    ],
)
def test_errors_that_nobody_waits_for_reach_the_client(tmp_path: Path, config: str, line: str, text: str) -> None:
    code = f"""
    async def execute(self, requests):
        await asyncio.sleep(0)
        {line}
    """
    model = load(tmp_path, code, config)
    answers = Waiting()
    request = infer_request(answers)
    model.execute([request])
    (response,) = answers.wait(1)
    assert response is not None
    assert response.error is not None
    assert text in response.error.message
    model.finalize()


def test_what_runs_at_the_end_is_cancelled_and_answered(tmp_path: Path) -> None:
    code = """
    async def execute(self, requests):
        await asyncio.Event().wait()
    """
    model = load(tmp_path, code, OVERLAP)
    answers = Waiting()
    model.execute([infer_request(answers)])
    model.finalize()
    (response,) = answers.wait(1)
    assert response is not None
    assert response.error is not None
    assert "CancelledError" in response.error.message


def test_a_wrong_parameter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="the parameter ASYNC_OVERLAP of model 'm' is 'maybe'; use 'yes' or 'no'"):
        load(tmp_path, MEET, OVERLAP.replace('"yes"', '"maybe"'))


@pytest.mark.parametrize("config", [CONFIG, OVERLAP, DECOUPLED], ids=["waited-for", "overlapping", "decoupled"])
@pytest.mark.parametrize("where", ["the call", "a task"])
@pytest.mark.parametrize("error", ["SystemExit", "KeyboardInterrupt", "asyncio.CancelledError"])
def test_what_would_end_a_program_ends_a_call_only(tmp_path: Path, config: str, where: str, error: str) -> None:
    """SystemExit gets out of asyncio's event loop; what else runs there goes on all the same."""
    raises = f"raise {error}('no')" if where == "the call" else "await asyncio.create_task(self.fails())"
    final = "" if config == DECOUPLED else "return [one(7)]"
    text = f"""
    async def fails(self):
        raise {error}('no')
    async def execute(self, requests):
        sender = requests[0].get_response_sender() if {config == DECOUPLED} else None
        if self.inside == 0:
            self.inside = 1
            {raises}
        await asyncio.sleep(0)
        if sender is not None:
            sender.send(one(7), flags=1)
        {final}
"""
    model = load(tmp_path, text, config)
    for number in range(2):
        waiting = Waiting()
        request = infer_request()
        request.responder = waiting
        try:
            model.execute([request])
        except InternalError as exc:
            assert number == 0
            request.fail(exc)
        response = waiting.wait(1)[0]
        if number == 1:
            assert value_of(response) == 7
        else:
            assert response is not None
            assert response.error is not None
            assert f"{error.removeprefix('asyncio.')}: " in response.error.message
    model.finalize()


def test_is_ready_and_finalize_may_not_end_the_process_either(tmp_path: Path) -> None:
    text = """
    async def is_ready(self):
        raise SystemExit(1)
    def finalize(self):
        raise SystemExit(2)
    def execute(self, requests):
        return [one(1)]
"""
    model = load(tmp_path, text, CONFIG)
    check: Any = model.readiness_check  # type: ignore[attr-defined]
    assert check() is False
    assert check() is False, "its event loop goes on"
    with pytest.raises(InternalError, match="SystemExit: 2"):
        model.finalize()
