"""Statistics, and the settings of the log and of traces: the hub has them."""

from typing import Any

from tensorhub.errors import TensorhubError
from tensorhub.frontend.catalog import Catalog, parse_version
from tensorhub.protocol import log_settings, messages, trace_settings

_LogSettingsResponse = messages.message_class("inference.LogSettingsResponse")
_StatisticsResponse = messages.message_class("inference.ModelStatisticsResponse")


def statistics(catalog: Catalog, request: Any, peer: str) -> Any:
    operation = messages.Control()
    operation.statistics.model = request.name
    operation.statistics.version = parse_version(request.version)
    return operation


def statistics_response(request: Any, result: Any) -> Any:
    return _StatisticsResponse(model_stats=result.statistics)


def change_log(catalog: Catalog, request: Any, peer: str) -> Any:
    change, error = log_settings.from_message(request.settings)
    operation = messages.Control()
    operation.change_log.options.update(change)
    if error is not None:
        operation.change_log.code, operation.change_log.message = 1 + error.code, error.message
    operation.change_log.SetInParent()
    return operation


def log_response(request: Any, result: Any) -> Any:
    response = _LogSettingsResponse()
    for name, value in log_settings.shown(result.log_options).items():
        setting = response.settings[name]
        if isinstance(value, bool):
            setting.bool_param = value
        elif isinstance(value, int):
            setting.uint32_param = value
        else:
            setting.string_param = value
    return response


def change_trace(catalog: Catalog, request: Any, peer: str) -> Any:
    try:
        update = trace_settings.from_message(request.settings)
    except TensorhubError:
        catalog.check_traced(request.model_name)
        raise
    return messages.Control(change_trace=trace_settings.operation(request.model_name, update))


def trace_response(request: Any, result: Any) -> Any:
    return result.trace
