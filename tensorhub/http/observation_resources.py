"""What the server tells about its work, as Falcon resources: statistics."""

from falcon.asgi import Request, Response

from tensorhub.frontend.catalog import LATEST, parse_version
from tensorhub.http.connection import control
from tensorhub.http.resources import context_of, send_json
from tensorhub.protocol import messages, statistics
from tensorhub.restrictions import Category


class AllStatistics:
    """GET /v2/models/stats"""

    category = Category.STATISTICS

    async def on_get(self, req: Request, resp: Response) -> None:
        await _answer(req, resp, "", LATEST)


class ModelStatistics:
    """GET /v2/models/<model>[/versions/<version>]/stats"""

    category = Category.STATISTICS

    async def on_get(self, req: Request, resp: Response, model: str, version: str) -> None:
        await _answer(req, resp, model, parse_version(version))


async def _answer(req: Request, resp: Response, model: str, version: int) -> None:
    operation = messages.Control()
    operation.statistics.model = model
    operation.statistics.version = version
    result = await control(context_of(req).gateway, operation)
    send_json(resp, statistics.to_json(result.statistics))
