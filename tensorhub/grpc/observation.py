"""What the server tells about its work: statistics, gathered by the hub."""

from typing import Any

from tensorhub.frontend.catalog import Catalog, parse_version
from tensorhub.protocol import messages

_StatisticsResponse = messages.message_class("inference.ModelStatisticsResponse")


def statistics(catalog: Catalog, request: Any, peer: str) -> Any:
    operation = messages.Control()
    operation.statistics.model = request.name
    operation.statistics.version = parse_version(request.version)
    return operation


def statistics_response(request: Any, result: Any) -> Any:
    return _StatisticsResponse(model_stats=result.statistics)
