"""Who may do what: tables."""

from typing import Any

import pytest

from tensorhub.errors import InvalidArgument
from tensorhub.http.access import ClientMemory, is_on_this_host
from tensorhub.http.settings import HttpSettings


@pytest.mark.parametrize(
    ("client", "server", "headers", "here"),
    [
        (None, None, [], True),
        (("", 0), None, [], True),
        (("127.0.0.1", 1), ("127.0.0.1", 80), [], True),
        (("127.9.9.9", 1), ("127.0.0.1", 80), [], True),
        (("::1", 1), ("::1", 80), [], True),
        (("::ffff:127.0.0.1", 1), ("::", 80), [], True),
        (("fe80::1%eth0", 1), ("fe80::1%eth0", 80), [], True),
        (("192.0.2.1", 1), ("192.0.2.1", 80), [], True),
        (("192.0.2.1", 1), ("192.0.2.2", 80), [], False),
        (("192.0.2.1", 1), None, [], False),
        (("testclient", 1), ("testclient", 80), [], False),
        (("127.0.0.1", 1), ("127.0.0.1", 80), [(b"x-forwarded-for", b"127.0.0.1")], False),
        (None, None, [(b"forwarded", b"for=x")], False),
    ],
)
def test_where_a_client_is(client: Any, server: Any, headers: Any, here: bool) -> None:
    scope = {"client": client, "server": server, "headers": headers}
    assert is_on_this_host(scope) is here
    assert ClientMemory.THIS_HOST.allows(scope) is here
    assert ClientMemory.ANYBODY.allows(scope)
    assert not ClientMemory.NOBODY.allows(scope)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"http-restricted-api": "health"}, "takes <category>"),
        ({"http-restricted-api": "health:=x"}, "takes <category>"),
        ({"http-restricted-api": "heath:k=v"}, "unknown restricted api 'heath'"),
        ({"http-restricted-api": "health:k=v\nhealth:k=w"}, "multiple groups"),
        ({"http-max-input-size": "1k"}, "number of bytes"),
        ({"http-header-forward-pattern": "("}, "no regular expression"),
        ({"allow-client-shm": "maybe"}, "auto, true or false"),
    ],
)
def test_options_that_cannot_be_understood(option: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        HttpSettings.read(option)
