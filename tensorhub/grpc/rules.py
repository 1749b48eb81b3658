"""How calls are treated: which need a key, and which of their metadata go to the model.

The one authorisation point of gRPC: every method of the table is registered behind a guard with the category that it
belongs to, and a guard asks `Rules.denial` before the handler sees anything.

The options come with the hub's snapshot, so that daemons which were started apart agree with the hub. What a daemon's
own command line says goes before that.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tensorhub.errors import InternalError, TensorhubError, Unavailable
from tensorhub.frontend.port import GatewayPort
from tensorhub.grpc.answering import refuse, status_details
from tensorhub.grpc.engine import Call, Metadata, Stream, StreamCall, StreamMethod, UnaryMethod
from tensorhub.protocol import messages
from tensorhub.protocol.forwarding import forward_pattern, is_forwarded
from tensorhub.restrictions import GRPC, Category, Restrictions

RULES = ("grpc-header-forward-pattern", "grpc-restricted-protocol")
"""The options."""


@dataclass(frozen=True, slots=True)
class GrpcSettings:
    """Attributes: forward: --grpc-header-forward-pattern; None: forward nothing."""

    restrictions: Restrictions
    forward: re.Pattern[str] | None

    @staticmethod
    def read(options: Mapping[str, str]) -> "GrpcSettings":
        """Read the options by their command line names; those that are missing have their defaults.

        Raises:
            InvalidArgument: an option cannot be understood.
        """
        return GrpcSettings(
            Restrictions.parse(options.get("grpc-restricted-protocol", ""), GRPC),
            forward_pattern(options.get("grpc-header-forward-pattern", ""), "--grpc-header-forward-pattern"),
        )


class Rules:
    """The settings that go with the newest catalog."""

    def __init__(self, gateway: GatewayPort, own: Mapping[str, str] | None = None) -> None:
        """Args: own: options of this process's command line that are not the default."""
        self._gateway = gateway
        self._own = own or {}
        self._read_of: Mapping[str, str] | None = None
        self._settings = GrpcSettings.read(self._own)

    def current(self) -> GrpcSettings:
        """Return the settings.

        Raises:
            InternalError: an option cannot be understood; nothing is served then, rather than with less protection.
        """
        options = self._gateway.catalog.settings
        if options is not self._read_of:
            try:
                self._settings = GrpcSettings.read({**options, **self._own})
            except TensorhubError as exc:
                raise InternalError(exc.message) from exc
            self._read_of = options
        return self._settings

    def denial(self, category: Category, call: Call | StreamCall) -> TensorhubError | None:
        """Return why a call of this category is refused; None: it is not."""
        try:
            restrictions = self.current().restrictions
        except InternalError as exc:
            return exc
        if not restrictions:
            return None
        text = restrictions.denial(category, call.metadata)
        return None if text is None else Unavailable(text)

    def forwarded(self, metadata: Callable[[], Metadata]) -> bytes:
        """Return what a client's metadata add to its requests: bytes to append to a serialised ModelInferRequest.

        Args:
            metadata: asked for only if there is something to forward.

        Raises:
            InvalidArgument: one of the keys has the name of a parameter with a meaning.
        """
        pattern = self.current().forward
        if pattern is None:
            return b""
        request = messages.ModelInferRequest()
        for key, value in metadata():
            if isinstance(value, str) and is_forwarded(key, pattern):
                request.parameters[key].string_param = value
        return bytes(request.SerializeToString())


def guarded(method: UnaryMethod | StreamMethod, category: Category, rules: Rules) -> UnaryMethod | StreamMethod:
    """Return a method that first asks whether the call is allowed."""
    if isinstance(method, UnaryMethod):
        return UnaryMethod(_GuardedCall(method.handle, category, rules), method.compress)
    return StreamMethod(_GuardedStream(method.open, category, rules), method.compress)


class _GuardedCall:
    def __init__(self, handle: Callable[[Call, bytes], None], category: Category, rules: Rules) -> None:
        self._handle = handle
        self._category = category
        self._rules = rules

    def __call__(self, call: Call, message: bytes) -> None:
        denial = self._rules.denial(self._category, call)
        if denial is None:
            self._handle(call, message)
        else:
            refuse(call, denial)


class _GuardedStream:
    def __init__(self, open_stream: Callable[[StreamCall], Stream], category: Category, rules: Rules) -> None:
        self._open = open_stream
        self._category = category
        self._rules = rules

    def __call__(self, call: StreamCall) -> Stream:
        denial = self._rules.denial(self._category, call)
        if denial is None:
            return self._open(call)
        call.finish(denial.grpc_status, status_details(denial.message))
        return Deaf()


class Deaf:
    """Deals with a stream that is over."""

    def on_message(self, message: bytes) -> None:
        """Nothing."""

    def on_half_close(self) -> None:
        """Nothing."""

    def on_gone(self) -> None:
        """Nothing."""

    def on_caught_up(self) -> None:
        """Nothing."""

    def on_stopping(self) -> None:
        """Nothing."""
