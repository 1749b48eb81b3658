"""`--cache-config`: which response cache there is, and how it is set up.

Source of the settings of `redis`: README and redis_cache.cc of Triton's redis_cache. Different from there: a setting
that is unknown or no number is refused, settings of TLS without `tls_enabled` too, and connections have time limits
unless they are turned off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tensorhub.option_kinds import Scoped

USER_VARIABLE = "TRITONCACHE_REDIS_USERNAME"
PASSWORD_VARIABLE = "TRITONCACHE_REDIS_PASSWORD"

_ALLOWED = "--cache-config=local,size=<bytes>"
_NUMBERS = ("connect_timeout", "db", "pool_size", "port", "socket_timeout", "wait_timeout")
_TEXTS = ("host", "password", "tls_enabled", "user")
_TLS = ("cacert", "cacert_dir", "cert", "key", "sni")
_REDIS = tuple(sorted((*_NUMBERS, *_TEXTS, *_TLS)))
_INT32_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """A cache in each worker, of so many bytes."""

    byte_size: int


@dataclass(frozen=True, slots=True)
class RedisTls:
    """How the connection to Redis is encrypted; empty paths: the system's authorities, and no certificate of ours.

    Attributes:
        sni: the name that the server's certificate must have; "": the host's.
    """

    cert: str = ""
    key: str = ""
    cacert: str = ""
    cacert_dir: str = ""
    sni: str = ""


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """A Redis server that is the cache of all workers, and of other servers that name it.

    Attributes:
        connect_timeout_ms, socket_timeout_ms: how long connecting, and each wait for a reply, may take; 0: for ever.
        pool_size: connections of each worker for look-ups.
        wait_timeout_ms: how long a look-up may wait for its turn.
    """

    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)
    db: int = 0
    connect_timeout_ms: int = 1_000
    socket_timeout_ms: int = 1_000
    pool_size: int = 1
    wait_timeout_ms: int = 1_000
    tls: RedisTls | None = None


def cache_options(
    settings: Sequence[Scoped], environ: Mapping[str, str] | None = None
) -> LocalOptions | RedisOptions | None:
    """Return what `--cache-config` asks for; None: there is no cache.

    Args:
        settings: of two with the same name the last one counts.
        environ: has user and password of Redis where the settings have none; None: it is not known here, and they are
            not judged.

    Raises:
        ValueError: they ask for what there is not, or make no sense; the message is for the one who gave them.
    """
    scopes = list(dict.fromkeys(item.scope for item in settings))
    if not scopes:
        return None
    if len(scopes) > 1:
        raise ValueError("found multiple cache configurations, but only a single cache is currently supported")
    given = {item.name: item.value for item in settings}
    if scopes == ["redis"]:
        return _redis(given, environ)
    for name in given:
        if name != "size":
            raise ValueError(f"the cache 'local' has no setting '{name}'. Use {_ALLOWED}")
    size = given["size"]
    if not (size.isascii() and size.isdecimal() and 0 < int(size) < 1 << 63):
        raise ValueError(f"the size of the cache 'local' must be a number of bytes above 0. Got '{size}'")
    return LocalOptions(int(size))


def without_password(settings: Sequence[Scoped]) -> tuple[tuple[Scoped, ...], dict[str, str]]:
    """Take the password out of the settings, so that no command line shows it.

    Returns:
        The other settings, and the environment that says the same.
    """
    passwords = [item.value for item in settings if (item.scope, item.name) == ("redis", "password")]
    kept = tuple(item for item in settings if (item.scope, item.name) != ("redis", "password"))
    return kept, {PASSWORD_VARIABLE: passwords[-1]} if passwords else {}


def _redis(given: Mapping[str, str], environ: Mapping[str, str] | None) -> RedisOptions:
    for name in given:
        if name not in _REDIS:
            raise ValueError(f"the cache 'redis' has no setting '{name}' (allowed: {', '.join(_REDIS)})")
    if not given.get("host") or not given.get("port"):
        raise ValueError(
            "Failed to initialize RedisCache, didn't specify address. Must at a minimum specify 'host' and 'port' in "
            "the configuration - e.g. --cache-config redis,host=redis --cache-config redis,port=6379"
        )
    user = given.get("user", (environ or {}).get(USER_VARIABLE, ""))
    password = given.get("password", (environ or {}).get(PASSWORD_VARIABLE, ""))
    if user and not password and environ is not None:
        raise ValueError(
            f"the cache 'redis' has the user '{user}' and no password. Give the setting password or {PASSWORD_VARIABLE}"
        )
    return RedisOptions(
        given["host"],
        _number(given, "port", 0, low=1, high=65535),
        user,
        password,
        _number(given, "db", 0),
        _number(given, "connect_timeout", 1_000),
        _number(given, "socket_timeout", 1_000),
        _number(given, "pool_size", 1, low=1, high=64),
        _number(given, "wait_timeout", 1_000),
        _tls(given),
    )


def _tls(given: Mapping[str, str]) -> RedisTls | None:
    enabled = given.get("tls_enabled", "")
    if enabled not in ("", "true", "false"):
        raise ValueError(f"the setting 'tls_enabled' of the cache 'redis' must be true or false. Got '{enabled}'")
    if enabled == "false":
        return None
    asked = {name: given[name] for name in _TLS if name in given}
    if not enabled:
        if asked:
            raise ValueError(f"the setting '{min(asked)}' of the cache 'redis' needs redis,tls_enabled=true")
        return None
    if asked.get("key") and not asked.get("cert"):
        raise ValueError("the setting 'key' of the cache 'redis' needs redis,cert=<file> beside it")
    return RedisTls(**asked)


def _number(given: Mapping[str, str], name: str, default: int, *, low: int = 0, high: int = _INT32_MAX) -> int:
    text = given.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
        raise ValueError(
            f"the setting '{name}' of the cache 'redis' must be a number from {low} to {high}. Got '{text}'"
        )
    return int(text)
