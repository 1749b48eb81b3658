"""One connection to a Redis server, and whether there is one to be had: the only module that imports `redis`.

What Redis holds is data of others: this module returns bytes, at most so many as it was told, and judges nothing.
"""

from collections.abc import Sequence
from typing import Any

from tensorhub.cache_options import RedisOptions, RedisTls

NO_REDIS = "--cache-config=redis,... needs the extra redis: pip install 'tensorhub[redis]'"

_READ_SIZE = 1 << 16
_ATTEMPTS_AGAIN = 1
"""A server closes connections that have been idle for long; the next command finds out, and is sent again."""


class RedisFault(Exception):
    """Redis cannot be asked; the text says why, without credentials."""


class RedisLink:
    """See the module. For one thread; connects when it is used, and again after a fault."""

    def __init__(self, options: RedisOptions) -> None:
        """
        Raises:
            RedisFault: the extra is not installed.
        """
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as exc:
            raise RedisFault(NO_REDIS) from exc
        self._place = f"{options.host}:{options.port}"
        self._response_error: type[Exception] = redis.ResponseError
        # The old form of the protocol: every server speaks it, and nothing here needs what the new one adds.
        pool = redis.ConnectionPool(
            connection_class=redis.Connection if options.tls is None else _tls_connection(),
            host=options.host,
            port=options.port,
            db=options.db,
            username=options.user or None,
            password=options.password or None,
            protocol=2,
            socket_connect_timeout=options.connect_timeout_ms / 1_000 or None,
            socket_timeout=options.socket_timeout_ms / 1_000 or None,
            socket_keepalive=True,
            socket_read_size=_READ_SIZE,
            retry=Retry(NoBackoff(), _ATTEMPTS_AGAIN, supported_errors=(redis.ConnectionError,)),
            **({} if options.tls is None else _tls_arguments(options.tls)),
        )
        self._client: Any = redis.Redis(connection_pool=pool)
        self._faults: tuple[type[Exception], ...] = (redis.RedisError, OSError, UnicodeError, ValueError)

    def __repr__(self) -> str:
        return f"<RedisLink {self._place}>"

    def ping(self) -> None:
        """See whether it answers.

        Raises:
            RedisFault: it does not, or not to us.
        """
        try:
            self._client.ping()
        except self._faults as exc:
            raise self._fault(exc) from exc

    def fetch(self, keys: Sequence[str], byte_limit: int) -> list[bytes | None]:
        """Return the first bytes of each value, at most `byte_limit` and one; b"" where there is nothing.

        None stands for what is no string. Everything is asked in one go.

        Raises:
            RedisFault: there is no answer.
        """
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.getrange(key, 0, byte_limit)
        replies = self._execute(pipeline)
        for reply in replies:
            if isinstance(reply, self._response_error) and not _is_wrong_type(reply):
                raise self._fault(reply)
        return [reply if isinstance(reply, bytes) else None for reply in replies]

    def store(self, items: Sequence[tuple[str, bytes, int]]) -> str:
        """Keep values, each with its key and how many seconds it is of use; 0: for ever.

        Returns:
            "" or why Redis has refused one of them, as it does when it is full.

        Raises:
            RedisFault: there is no answer.
        """
        pipeline = self._client.pipeline(transaction=False)
        for key, value, lifetime_s in items:
            pipeline.set(key, value, ex=lifetime_s or None)
        return next((str(reply) for reply in self._execute(pipeline) if isinstance(reply, self._response_error)), "")

    def close(self) -> None:
        """Let the connection go; a later use opens another one."""
        self._client.connection_pool.disconnect()

    def _execute(self, pipeline: Any) -> list[Any]:
        try:
            return list(pipeline.execute(raise_on_error=False))
        except self._faults as exc:
            self.close()
            raise self._fault(exc) from exc

    def _fault(self, exc: Exception) -> RedisFault:
        return RedisFault(f"Redis at {self._place}: {exc or type(exc).__name__}")


def check_redis(options: RedisOptions) -> None:
    """See whether the extra is there and Redis answers.

    Raises:
        RedisFault: not so.
    """
    link = RedisLink(options)
    try:
        link.ping()
    finally:
        link.close()


def _is_wrong_type(reply: Exception) -> bool:
    return str(reply).startswith("WRONGTYPE")


def _tls_arguments(tls: RedisTls) -> dict[str, Any]:
    return {
        "ssl_certfile": tls.cert or None,
        "ssl_keyfile": tls.key or None,
        "ssl_ca_certs": tls.cacert or None,
        "ssl_ca_path": tls.cacert_dir or None,
        "expected_name": tls.sni,
    }


def _tls_connection() -> type[Any]:
    from redis import SSLConnection

    class NamedConnection(SSLConnection):
        """A connection that may expect another name of the server than that which it is reached by.

        The library takes one name for both. Should a later version of it ask in another way, the other name does not
        get through, and the certificate is refused.
        """

        def __init__(self, *, expected_name: str = "", **arguments: Any) -> None:
            super().__init__(**arguments)
            self._expected_name = expected_name

        def _wrap_socket_with_ssl(self, sock: Any) -> Any:
            host, self.host = self.host, self._expected_name or self.host
            try:
                return super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]
            finally:
                self.host = host

    return NamedConnection
