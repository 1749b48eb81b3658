"""Perform the steps of a case against a server and return its normalised answers.

The only module that touches the servers under test, /dev/shm and their repositories. A target is two addresses and a
folder, so the same code records from Triton and replays against tensorhub.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.waiting import comes_true

from . import grpc_wire, http_wire, normalise
from .steps import (
    HELD,
    NOTED,
    RUN_TOKEN,
    AwaitAnswer,
    AwaitCounted,
    AwaitState,
    Case,
    Exchange,
    Grpc,
    GrpcBytes,
    GrpcStream,
    Http,
    Pause,
    Raw,
    ReleaseRegion,
    RemoveTree,
    ShmCreate,
    ShmRead,
    Step,
    Together,
    WriteFile,
    WriteTree,
)
from .turns import AT_ONCE, Gate, Turn, all_given_up, pending

Answer = dict[str, Any]

_HEADERS = ("content-type", "content-encoding", "accept-encoding")
_SHM = Path("/dev/shm")
_METRICS = http_wire.request_bytes(Http("GET", "/metrics"))


@dataclass(frozen=True, slots=True)
class Target:
    """A running server: where it listens, and its own copy of the model repository, which steps may change.

    `metrics_port` is 0 if it has no metrics.
    """

    http_port: int
    grpc_port: int
    repository: Path
    metrics_port: int = 0
    host: str = "127.0.0.1"
    token: str = field(default_factory=lambda: secrets.token_hex(4))


def run_case(case: Case, target: Target) -> list[Answer]:
    """The answers of the case's steps, one for each; shared-memory objects that it created are gone afterwards.

    Raises:
        OSError: the server cannot be reached or does not answer.
    """
    session = _Session(target)
    try:
        return [session.perform(step) for step in case.steps]
    finally:
        session.close()


class _Session:
    def __init__(self, target: Target) -> None:
        self._target = target
        self._segments: list[Path] = []
        self._replace = {target.token: RUN_TOKEN, str(target.repository): "<repository>"}

    def close(self) -> None:
        for path in self._segments:
            with suppress(FileNotFoundError):
                path.unlink()

    def perform(self, step: Step) -> Answer:
        """The answer of one step: what was asked, a digest of the request's bytes, and what came back."""
        match step:
            case Http() | Grpc():
                return self._exchange(step)
            case Raw():
                return self._raw(step)
            case GrpcBytes():
                return self._grpc_bytes(step)
            case GrpcStream():
                return self._grpc_stream(step)
            case ShmCreate():
                return self._shm_create(step)
            case ShmRead():
                with self._segment(step.key).open("rb") as segment:
                    segment.seek(step.offset)
                    return {
                        "step": f"read {step.key} [{step.offset}:{step.offset + step.byte_size}]",
                        "data": segment.read(step.byte_size).hex(),
                    }
            case ReleaseRegion():
                return self._release_region(step)
            case WriteFile():
                path = self._target.repository / step.path
                path.parent.mkdir(parents=True, exist_ok=True)
                draft = self._aside()
                draft.write_text(step.text)
                draft.replace(path)
                return {"step": f"write {step.path}"}
            case WriteTree():
                return self._write_tree(step)
            case RemoveTree():
                doomed = self._aside()
                (self._target.repository / step.path).rename(doomed)
                shutil.rmtree(doomed)
                return {"step": f"remove {step.path}"}
            case AwaitState():
                return self._await_state(step)
            case AwaitAnswer():
                return self._await_answer(step)
            case Together():
                return self._together(step)
            case Pause():
                time.sleep(step.ms / 1_000)
                return {"step": f"pause of {step.ms} ms"}
            case AwaitCounted():
                return self._await_counted(step)

    def _aside(self) -> Path:
        """A new path on the repository's file system that no server looks at, to move things from and to."""
        return self._target.repository.parent / f"aside-{secrets.token_hex(4)}"

    def _write_tree(self, step: WriteTree) -> Answer:
        draft = self._aside()
        for name, text in step.files:
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        draft.rename(self._target.repository / step.path)
        return {"step": f"write {step.path}", "files": [name for name, _ in step.files]}

    def _together(self, step: Together) -> Answer:
        turns = [Turn() for _ in step.steps]
        gate = Gate.beside(self._target.repository)
        with ThreadPoolExecutor(len(turns)) as pool, gate.closed(), all_given_up(turns):
            started = [pool.submit(self._exchange, *pair) for pair in zip(step.steps, turns, strict=True)]
            for answer, turn in zip(started, turns, strict=True):
                answer.add_done_callback(lambda _, turn=turn: turn.give_up())
                turn.await_arrival()
            for sent, turn in enumerate(turns, 1):
                turn.take()
                held = sum(map(_is_held, step.steps[:sent]))
                _await(lambda held=held: gate.held() >= held, f"{held} requests are held")
                _await(lambda sent=sent: self._arrived(started, gate) >= sent, f"request {sent} has arrived")
            _await(lambda: all(started[place].done() for place in step.before), f"{step.before} have been answered")
            time.sleep(step.hold_ms / 1_000)
            gate.open()
            return {"step": f"together {len(started)}", "answers": [item.result() for item in started]}

    def _arrived(self, started: list[Future[Answer]], gate: Gate) -> int:
        """How many exchanges have arrived. One that goes on meanwhile is missed rather than counted twice."""
        known = sum(answer.done() for answer in started) + gate.held()
        if not self._target.metrics_port:
            return known
        page = http_wire.exchange((self._target.host, self._target.metrics_port), _METRICS, method="GET")[0].body
        return known + pending(page)

    def _exchange(self, step: Exchange, turn: AbstractContextManager[object] = AT_ONCE) -> Answer:
        return self._http(step, turn) if isinstance(step, Http) else self._grpc(step, turn)

    def _own(self, data: bytes) -> bytes:
        return data.replace(RUN_TOKEN.encode(), self._target.token.encode())

    def _text(self, value: str) -> str:
        return normalise.text(value, self._replace)

    def _http(self, step: Http, turn: AbstractContextManager[object]) -> Answer:
        data = http_wire.request_bytes(step)
        address = (self._target.host, self._target.http_port)
        answers = http_wire.exchange(address, self._own(data), method=step.method, turn=turn)
        answer = _about(f"{step.method} {step.path}", data)
        return answer | (self._http_answer(answers[0], step.only) if answers else {"closed": True})

    def _raw(self, step: Raw) -> Answer:
        answers = http_wire.exchange((self._target.host, self._target.http_port), self._own(step.data), step.responses)
        first_line = step.data.split(b"\r\n", 1)[0].decode("latin-1")
        return _about(first_line, step.data) | {"answers": [self._http_answer(answer, ()) for answer in answers]}

    def _http_answer(self, answer: http_wire.HttpAnswer, only: tuple[str, ...]) -> Answer:
        headers = {name: answer.headers[name] for name in _HEADERS if name in answer.headers}
        result: Answer = {"status": answer.status, "headers": headers}
        body = _decoded(answer.body, headers.get("content-encoding", ""))
        split = answer.headers.get("inference-header-content-length")
        if split is not None:
            headers["inference-header-content-length"] = "<length of the JSON>"
            body, result["binary"] = body[: int(split)], body[int(split) :].hex()
        if not body:
            # The type of nothing means nothing; Triton's library adds one or not by chance of the code path.
            headers.pop("content-type", None)
            return result
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            return result | {"events": [self._json(json.loads(event), only) for event in http_wire.events(body)]}
        try:
            value = json.loads(body)
        except ValueError:
            return result | {"text": self._text(body.decode("latin-1"))}
        return result | {"json": self._json(value, only)}

    def _json(self, value: Any, only: tuple[str, ...]) -> Any:
        if isinstance(value, list):
            value = normalise.entries(value, only)
        elif isinstance(value, dict) and "extensions" in value:
            value = normalise.server_metadata(value)
        elif isinstance(value, dict) and "instance_group" in value:
            value = normalise.model_config(value)
        elif isinstance(value, dict) and "model_stats" in value:
            value = normalise.statistics(value)
        return normalise.strings(value, self._text)

    def _grpc(self, step: Grpc, turn: AbstractContextManager[object]) -> Answer:
        data = grpc_wire.request_bytes(step.request)

        def parse(response: bytes) -> dict[str, Any]:
            value = grpc_wire.parse_response(step.method, response)
            if "extensions" in value:
                value = normalise.server_metadata(value)
            if "model_stats" in value:
                value = normalise.statistics(value)
            if "models" in value:
                value["models"] = normalise.entries(value["models"], step.only)
            return {"response": normalise.strings(value, self._text)}

        return self._call(grpc_wire.SERVICE + step.method, step.method, data, parse, step.metadata, turn)

    def _grpc_bytes(self, step: GrpcBytes) -> Answer:
        return self._call(step.path, step.path, step.body, lambda data: {"response": data.hex()}, step.metadata)

    def _grpc_stream(self, step: GrpcStream) -> Answer:
        bodies = [body if isinstance(body, bytes) else grpc_wire.request_bytes(body) for body in step.requests]
        answer = grpc_wire.stream(
            f"{self._target.host}:{self._target.grpc_port}",
            [self._own(body) for body in bodies],
            step.metadata,
            one_by_one=step.one_by_one,
        )
        result = _about("ModelStreamInfer", b"".join(bodies)) | {
            "responses": [
                normalise.strings(grpc_wire.parse_response("ModelStreamInfer", item), self._text)
                for item in answer.responses
            ],
            "code": answer.code,
        }
        return result | ({"details": self._text(answer.details)} if answer.details else {})

    def _call(
        self,
        path: str,
        label: str,
        data: bytes,
        parse: Callable[[bytes], Answer],
        metadata: tuple[tuple[str, str], ...],
        turn: AbstractContextManager[object] = AT_ONCE,
    ) -> Answer:
        address = f"{self._target.host}:{self._target.grpc_port}"
        answer = grpc_wire.call(address, path, self._own(data), metadata, turn=turn)
        result = _about(label, data) | {"code": answer.code}
        if answer.response is None:
            return result | {"details": self._text(answer.details)}
        return result | parse(answer.response)

    def _segment(self, key: str) -> Path:
        return _SHM / self._own(key.lstrip("/").encode()).decode()

    def _shm_create(self, step: ShmCreate) -> Answer:
        path = self._segment(step.key)
        self._segments.append(path)
        path.write_bytes(step.data)
        return {"step": f"create {step.key}", "byte_size": len(step.data)}

    def _release_region(self, step: ReleaseRegion) -> Answer:
        request = http_wire.request_bytes(Http("POST", f"/v2/systemsharedmemory/region/{step.region}/unregister"))
        status = 0

        def released() -> bool:
            nonlocal status
            status = http_wire.exchange((self._target.host, self._target.http_port), request)[0].status
            return status == 200

        comes_true(released)
        return {"step": f"release {step.region}", "status": status}

    def _await_state(self, step: AwaitState) -> Answer:
        about = {"step": f"{step.model} is {step.state}"}
        index = http_wire.request_bytes(Http("POST", "/v2/repository/index"))
        states: set[str] = set()

        def reached() -> bool:
            nonlocal states
            body = http_wire.exchange((self._target.host, self._target.http_port), index)[0].body
            states = {entry.get("state", "") for entry in json.loads(body) if entry["name"] == step.model}
            return step.state in states and not states & {"LOADING", "UNLOADING"}

        return about if comes_true(reached) else about | {"after_deadline": sorted(states)}

    def _await_answer(self, step: AwaitAnswer) -> Answer:
        about = {"step": f"{step.request.method} {step.request.path} answers {step.text}"}
        request = http_wire.request_bytes(step.request)
        body = b""

        def answered() -> bool:
            nonlocal body
            body = http_wire.exchange((self._target.host, self._target.http_port), request)[0].body
            return step.text.encode() in body

        return about if comes_true(answered) else about | {"after_deadline": self._text(body.decode("latin-1"))}

    def _await_counted(self, step: AwaitCounted) -> Answer:
        about = {"step": f"{step.model} has counted {step.requests}"}
        version = f"/versions/{step.version}" if step.version else ""
        request = http_wire.request_bytes(Http("GET", f"/v2/models/{step.model}{version}/stats"))
        counted = -1

        def reached() -> bool:
            nonlocal counted
            body = http_wire.exchange((self._target.host, self._target.http_port), request, method="GET")[0].body
            found = [entry["inference_stats"] for entry in json.loads(body)["model_stats"]]
            counted = sum(stats[name]["count"] for stats in found for name in ("success", "fail"))
            return counted >= step.requests

        return about if comes_true(reached) else about | {"after_deadline": counted}


def _is_held(step: Exchange) -> bool:
    """Whether the first value of an inference's first input is HELD or NOTED."""
    if not isinstance(step, Http) or not step.path.endswith("/infer"):
        return False
    inputs = json.loads(step.body)["inputs"]
    return bool(inputs) and inputs[0]["data"][0] in (HELD, NOTED)


def _await(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds.

    Raises:
        OSError: it does not within a minute.
    """
    if not comes_true(condition):
        raise TimeoutError(f"not within a minute: {what}")


def _decoded(body: bytes, encoding: str) -> bytes:
    """A body without its compression."""
    if encoding == "gzip":
        return zlib.decompress(body, zlib.MAX_WBITS | 16)
    return zlib.decompress(body) if encoding == "deflate" else body


def _about(label: str, data: bytes) -> Answer:
    """How a request is shown in a recording; the digest tells a recording that was made of another request."""
    return {"step": label, "request": hashlib.sha256(data).hexdigest()[:12]}
