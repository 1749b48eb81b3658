"""D3: every offset with every size, over both protocols: what is not inside is refused, whatever the numbers are."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.safety.client import Grpc, Http
from tests.safety.processes import nothing_is_left
from tests.safety.soak import turns
from tests.serving import RunningServer
from tests.shm.segments import segment

PAGE = 4096
N = 2 * PAGE
NUMBERS: list[Any] = [0, 1, N - 1, N, N + 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32, 2**53 - 1, 2**53, 2**53 + 1]
NUMBERS += [2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, -1, -(2**63), 1.5, "1", True, None]
ONE = (0, 1, N - 1, N, N + 1, 2**31, 2**63 - 1, 2**64 - 1, -1, 1.5, "1", True)


def _uint(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**64


def _registers(offset: Any, byte_size: Any) -> bool:
    if not _uint(offset) or not _uint(byte_size):
        return False
    return byte_size > 0 and offset + byte_size <= N and offset % PAGE == 0


def _inside(offset: Any, byte_size: Any) -> bool:
    if not _uint(offset) or not _uint(byte_size):
        return False
    return byte_size > 0 and offset + byte_size <= N


def test_registration_over_http(guarded: RunningServer, http: Http) -> None:
    with segment(bytes(N)) as made, nothing_is_left(guarded):
        for offset in NUMBERS:
            for byte_size in ONE:
                status, body = http.register("d03", made.key, offset, byte_size)
                assert (status == 200) is _registers(offset, byte_size), (offset, byte_size, status, body)
                if status == 200:
                    assert http.unregister("d03") == 200
                else:
                    assert json.loads(body)["error"]
        assert http.regions() == []


def test_registration_over_grpc(guarded: RunningServer, rpc: Grpc, http: Http) -> None:
    numbers = [value for value in NUMBERS if _uint(value)]
    with segment(bytes(N)) as made, nothing_is_left(guarded):
        for offset in numbers:
            for byte_size in numbers:
                code, text = rpc.register("d03", made.key, offset, byte_size)
                assert (code == "OK") is _registers(offset, byte_size), (offset, byte_size, code, text)
                if code == "OK":
                    assert rpc.unregister("d03")[0] == "OK"
        assert http.regions() == []


@pytest.fixture
def region(http: Http) -> Any:
    with segment(bytes(range(256)) * (N // 256)) as made:
        assert http.register("d03", made.key, 0, N)[0] == 200
        yield made.content
        assert http.unregister("d03") == 200


def test_tensors_over_http(http: Http, region: bytes) -> None:
    for offset in NUMBERS:
        for byte_size in ONE:
            count = byte_size if type(byte_size) is int and 0 < byte_size <= N else 1
            status, body = http.infer("d03", offset, byte_size, shape=[count])
            assert (status == 200) is _inside(offset, byte_size), (offset, byte_size, status, body)
            assert status != 200 or body == region[offset : offset + byte_size]


def test_outputs_over_http(http: Http, region: bytes) -> None:
    for offset in NUMBERS:
        for byte_size in ONE:
            place = {"shared_memory_offset": offset, "shared_memory_byte_size": byte_size}
            status, body = http.infer("d03", 0, 1, output={"shared_memory_region": "d03", **place})
            assert (status == 200) is _inside(offset, byte_size), (offset, byte_size, body)


def test_tensors_over_grpc(rpc: Grpc, region: bytes) -> None:
    numbers = [value for value in NUMBERS if type(value) is int and -(2**63) <= value < 2**63]
    for offset in numbers:
        for byte_size in numbers:
            code, answer = rpc.infer("d03", offset, byte_size, byte_size if 0 < byte_size <= N else 1)
            assert (code == "OK") is _inside(offset, byte_size), (offset, byte_size, code, answer)
            if code == "OK":
                assert answer.raw_output_contents[0] == region[offset : offset + byte_size]


_any_number = st.one_of(st.sampled_from(NUMBERS), st.integers(-(2**70), 2**70), st.integers(0, N + 2), st.floats())


@settings(
    max_examples=turns(100, 5_000), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(offset=_any_number, byte_size=_any_number)
def test_no_pair_of_numbers_gets_out(http: Http, region: bytes, offset: Any, byte_size: Any) -> None:
    count = byte_size if type(byte_size) is int and 0 < byte_size <= N else 1
    status, body = http.infer("d03", offset, byte_size, shape=[count])
    assert (status == 200) is _inside(offset, byte_size), (offset, byte_size, status, body)
    assert status != 200 or body == region[offset : offset + byte_size]
