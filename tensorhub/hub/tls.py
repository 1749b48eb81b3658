"""The files of HTTP's encryption, tried before anything starts, so that a fault in them is one line and no more."""

from tensorhub.errors import InvalidArgument
from tensorhub.settings import Settings


def check_http_tls(settings: Settings) -> None:
    """Check that the certificates and the key can be used, if HTTP is to be encrypted.

    Raises:
        InvalidArgument: a file cannot be read or does not hold what it should; the key is not the certificate's, or
            has a password.
    """
    tls = settings.http_tls
    if not settings.http.allow_http or not (tls.http_use_ssl or tls.http_use_ssl_mutual):
        return
    # Not at the top: a server without encryption does without it.
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.http_server_cert, tls.http_server_key, password=_refuse_password)
    except OSError as exc:
        raise InvalidArgument(
            f"cannot use --http-server-cert={tls.http_server_cert} with --http-server-key={tls.http_server_key}: "
            f"{_reason(exc)}"
        ) from exc
    if not tls.http_use_ssl_mutual:
        return
    try:
        context.load_verify_locations(tls.http_root_cert)
    except OSError as exc:
        raise InvalidArgument(f"cannot use --http-root-cert={tls.http_root_cert}: {_reason(exc)}") from exc


def _refuse_password() -> str:
    """Answer what OpenSSL would ask on the terminal for."""
    raise InvalidArgument("the key of --http-server-key has a password: write it without one, readable by us alone")


def _reason(exc: OSError) -> str:
    return getattr(exc, "reason", None) or exc.strerror or "it is not PEM"
