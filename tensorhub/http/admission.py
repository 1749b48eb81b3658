"""What every call for inference passes first: the server serves, this client may, the method fits.

Triton's order: restricted API, then method.
"""

from http import HTTPStatus

from tensorhub.frontend.catalog import Catalog
from tensorhub.http.asgi import Scope
from tensorhub.http.connection import Connection, HttpGateway
from tensorhub.http.settings import HttpSettings
from tensorhub.restrictions import Category


class Refused(Exception):
    """Answer with this, which is no error of the server's vocabulary."""

    def __init__(self, status: int, message: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


async def admit(connection: Connection, scope: Scope) -> tuple[HttpGateway, Catalog, HttpSettings]:
    """Let a POST request for inference in.

    Raises:
        Refused: the header that --http-restricted-api asks for is missing, or it is no POST.
        Unavailable: the server does not serve.
    """
    gateway = connection.gateway or await connection.open()
    catalog = gateway.catalog
    catalog.check_serving()
    settings = connection.settings(catalog.settings)
    denial = settings.restrictions.denial(Category.INFERENCE, scope["headers"])
    if denial is not None:
        raise Refused(HTTPStatus.FORBIDDEN, denial)
    if scope["method"] != "POST":
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed")
    return gateway, catalog, settings
