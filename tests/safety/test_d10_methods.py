"""D10: the same over gRPC: every method of a restricted group needs the pair."""

from collections.abc import Iterator

import grpc
import pytest

from tensorhub.protocol import messages
from tensorhub.restrictions import Category
from tests.safety.conftest import MODELS
from tests.serving import RunningServer, serving

_KEY, _VALUE = "d10-key", "d10-secret"
_GROUPS = [category.value for category in Category]
_SERVICE = "inference.GRPCInferenceService"
_METHODS = [(method.name, method.client_streaming) for method in messages.service(_SERVICE).methods]


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    option = f"--grpc-restricted-protocol={','.join(_GROUPS)}:{_KEY}={_VALUE}"
    with serving(tmp_path_factory.mktemp("closed"), [option], repository=MODELS) as running:
        yield running


@pytest.mark.parametrize(("name", "streams"), _METHODS)
def test_every_method(closed: RunningServer, name: str, streams: bool) -> None:
    pair = (f"triton-grpc-protocol-{_KEY}", _VALUE)
    with grpc.insecure_channel(closed.grpc) as channel:

        def outcome(*metadata: tuple[str, str]) -> tuple[str, str]:
            path = f"/{_SERVICE}/{name}"
            try:
                if streams:
                    list(channel.stream_stream(path)(iter([b""]), timeout=20, metadata=metadata))
                else:
                    channel.unary_unary(path)(b"", timeout=20, metadata=metadata)
            except grpc.RpcError as exc:
                return exc.code().name, exc.details() or ""
            return "OK", ""

        for wrong in ((), ((pair[0], "wrong"),), ((pair[0], ""),), ((_KEY, _VALUE),)):
            code, text = outcome(*wrong)
            assert code == "UNAVAILABLE", (name, wrong, code)
            assert "is restricted, expecting header" in text
            assert _VALUE not in text
        code, text = outcome(pair)
        assert "is restricted" not in text, (name, code, text)
