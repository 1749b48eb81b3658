"""D10: the same over gRPC: every method of a restricted group needs the pair."""

import grpc
import pytest

from tensorhub.protocol import messages
from tests.safety.conftest import KEY, SECRET
from tests.serving import RunningServer

_SERVICE = "inference.GRPCInferenceService"
_METHODS = [(method.name, method.client_streaming) for method in messages.service(_SERVICE).methods]


@pytest.mark.parametrize(("name", "streams"), _METHODS)
def test_every_method(closed: RunningServer, name: str, streams: bool) -> None:
    pair = (f"triton-grpc-protocol-{KEY}", SECRET)
    with grpc.insecure_channel(closed.grpc) as channel:

        def outcome(*metadata: tuple[str, str]) -> tuple[str, str]:
            path = f"/{_SERVICE}/{name}"
            try:
                if streams:
                    list(channel.stream_stream(path)(iter([b""]), timeout=60, metadata=metadata))
                else:
                    channel.unary_unary(path)(b"", timeout=60, metadata=metadata)
            except grpc.RpcError as exc:
                return exc.code().name, exc.details() or ""
            return "OK", ""

        for wrong in ((), ((pair[0], "wrong"),), ((pair[0], ""),), ((KEY, SECRET),)):
            code, text = outcome(*wrong)
            assert code == "UNAVAILABLE", (name, wrong, code)
            assert "is restricted, expecting header" in text
            assert SECRET not in text
        code, text = outcome(pair)
        assert "is restricted" not in text, (name, code, text)
