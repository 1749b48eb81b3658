"""TLS for either engine."""

from typing import Any

import grpc

from tensorhub.grpc.engine import Tls


def server_credentials(tls: Tls) -> Any:
    """Return grpcio's credentials of a server."""
    return grpc.ssl_server_credentials(((tls.key, tls.certificate),), tls.root, tls.mutual)
