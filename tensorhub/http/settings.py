"""The server's options that concern HTTP, read from the catalog. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tensorhub.errors import InvalidArgument
from tensorhub.http.access import ClientMemory
from tensorhub.ownership import Scope, parse_scope
from tensorhub.protocol.forwarding import forward_pattern
from tensorhub.protocol.http_infer import DEFAULT_MAX_INPUT_SIZE, Limits
from tensorhub.protocol.sharing import guards_outputs
from tensorhub.restrictions import Restrictions


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """The options.

    Attributes:
        server_name: --id.
        limits: --http-max-input-size.
        forward: --http-header-forward-pattern; None: forward nothing.
        client_memory: --allow-client-shm.
        guards_outputs: not every client may have the server make regions for outputs.
        scope: --shm-scope.
        divided: whether the scope makes a difference between clients.
        restrictions: --http-restricted-api.
    """

    server_name: str
    limits: Limits
    forward: re.Pattern[str] | None
    client_memory: ClientMemory
    guards_outputs: bool
    scope: Scope
    divided: bool
    restrictions: Restrictions

    @staticmethod
    def read(options: Mapping[str, str]) -> "HttpSettings":
        """Read the options by their command line names; those that are missing have their defaults.

        Raises:
            InvalidArgument: an option cannot be understood.
        """
        scope = parse_scope(options.get("shm-scope", "global"))
        return HttpSettings(
            server_name=options.get("id", "triton"),
            limits=Limits(_size(options)),
            forward=forward_pattern(options.get("http-header-forward-pattern", ""), "--http-header-forward-pattern"),
            client_memory=_client_memory(options.get("allow-client-shm", "auto")),
            guards_outputs=guards_outputs(options),
            scope=scope,
            divided=scope.divides,
            restrictions=Restrictions.parse(options.get("http-restricted-api", "")),
        )


def _size(options: Mapping[str, str]) -> int:
    text = options.get("http-max-input-size", str(DEFAULT_MAX_INPUT_SIZE))
    try:
        return int(text)
    except ValueError:
        raise InvalidArgument(f"--http-max-input-size takes a number of bytes, got: {text}") from None


def _client_memory(text: str) -> ClientMemory:
    try:
        return ClientMemory(text)
    except ValueError:
        raise InvalidArgument(f"--allow-client-shm takes auto, true or false, got: {text}") from None
