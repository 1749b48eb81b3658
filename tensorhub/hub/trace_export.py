"""Traces as OpenTelemetry spans, sent to a collector by OTLP over HTTP.

A trace becomes three spans, as in Triton: `InferRequest`, what the frontend saw; inside it one with the model's name,
what the worker did; inside that `compute`, and the spans of what the model has asked of other models. Their ids are
chosen where the request is: the frontend's by the frontend, the model's by the worker, which tells it to the model. The
spans are put together here afterwards, so they are not made with a tracer but as what a tracer would have made.

The opentelemetry packages are the extra `otel`. They are imported here and when they are needed, so only by the hub,
and only in the mode `opentelemetry`.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

from tensorhub.errors import InvalidArgument
from tensorhub.hub.trace_desk import Part, Trace
from tensorhub.protocol import trace_context
from tensorhub.protocol.trace_settings import DEFAULT_URL

log = logging.getLogger(__name__)

_BATCH_SETTINGS = {
    "bsp_max_queue_size": "max_queue_size",
    "bsp_schedule_delay": "schedule_delay_millis",
    "bsp_max_export_batch_size": "max_export_batch_size",
}
_COMPUTE = "COMPUTE_"
_ANSWERED = "INFER_RESPONSE_COMPLETE"


class TraceExporter:
    """See the module.

    Args:
        settings: of `--trace-config=opentelemetry,...`.

    Raises:
        InvalidArgument: the extra is not installed, or a setting is unknown or has a value that is none.
    """

    def __init__(self, settings: Sequence[tuple[str, str]]) -> None:
        url, resource, batches = _read(settings)
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as exc:
            raise InvalidArgument(
                "--trace-config mode=opentelemetry needs the extra otel: pip install 'tensorhub[otel]'"
            ) from exc
        self._resource = Resource.create({"service.name": "triton-inference-server", **resource})
        self._processor: Any = BatchSpanProcessor(OTLPSpanExporter(endpoint=url), **batches)

    def export(self, trace: Trace) -> None:
        """Send a trace, some time; when the queue of spans is full it is lost."""
        offset_ns = time.time_ns() - time.monotonic_ns()
        for span in self._spans(trace, offset_ns):
            self._processor.on_end(span)

    def close(self) -> None:
        """Send what is left."""
        self._processor.shutdown()

    def _spans(self, trace: Trace, offset_ns: int) -> Iterable[Any]:
        begin, work, end = trace.begin, trace.work, trace.end
        own = trace_context.parse(begin.context)
        if own is None:
            return
        worked = work.stamps if work is not None else ()
        answered = [stamp for stamp in worked if stamp.name == _ANSWERED]
        stamps = [*begin.stamps, *answered, *(end.stamps if end is not None else ())]
        yield self._span("InferRequest", own, begin.parent_span, stamps, offset_ns, {}, remote_parent=True)
        if work is None:
            return
        spans = {0: work.span, **{part.work.id: part.work.span for part in trace.parts}}
        yield from self._work(Part(trace.number, 0, work), own, own.span_id, offset_ns)
        for part in trace.parts:
            parent_span = spans.get(part.work.parent, work.span)
            yield from self._work(part, own, parent_span, offset_ns)

    def _work(self, part: Part, own: trace_context.TraceContext, parent_span: int, offset_ns: int) -> Iterable[Any]:
        work = part.work
        if not work.stamps:
            return
        attributes = {
            "triton.model_name": work.model,
            "triton.model_version": work.version,
            "triton.trace_id": part.number,
            "triton.trace_parent_id": part.parent,
        }
        if work.request_id:
            attributes["triton.request_id"] = work.request_id
        model = own._replace(span_id=work.span)
        outside = [stamp for stamp in work.stamps if not stamp.name.startswith(_COMPUTE) and stamp.name != _ANSWERED]
        yield self._span(work.model, model, parent_span, outside, offset_ns, attributes)
        compute = [stamp for stamp in work.stamps if stamp.name.startswith(_COMPUTE)]
        if compute:
            context = own._replace(span_id=trace_context.new_span_id())
            yield self._span("compute", context, work.span, compute, offset_ns, {})

    def _span(
        self,
        name: str,
        context: trace_context.TraceContext,
        parent_span: int,
        stamps: Sequence[Any],
        offset_ns: int,
        attributes: dict[str, Any],
        *,
        remote_parent: bool = False,
    ) -> Any:
        from opentelemetry.sdk.trace import Event, ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

        flags = TraceFlags(TraceFlags.SAMPLED)
        parent = SpanContext(context.trace_id, parent_span, is_remote=remote_parent, trace_flags=flags)
        times = [stamp.ns + offset_ns for stamp in stamps] or [offset_ns]
        return ReadableSpan(
            name=name,
            context=SpanContext(context.trace_id, context.span_id, is_remote=False, trace_flags=flags),
            parent=parent if parent_span else None,
            resource=self._resource,
            attributes=attributes,
            events=[
                Event(stamp.name, {"triton.steady_timestamp_ns": stamp.ns}, stamp.ns + offset_ns) for stamp in stamps
            ],
            kind=SpanKind.SERVER,
            start_time=min(times),
            end_time=max(times),
        )


def _read(settings: Sequence[tuple[str, str]]) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Return the collector's address, the attributes of the resource, and the arguments of the batch processor."""
    url = DEFAULT_URL
    resource: dict[str, str] = {}
    batches: dict[str, Any] = {}
    for name, value in settings:
        if name == "url":
            url = value
        elif name == "resource":
            key, equals, text = value.partition("=")
            if not equals:
                raise InvalidArgument(f"--trace-config opentelemetry,resource: got '{value}'; allowed is <key>=<value>")
            resource[key] = text
        elif name in _BATCH_SETTINGS and value.isdecimal() and int(value) > 0:
            batches[_BATCH_SETTINGS[name]] = int(value)
        else:
            raise InvalidArgument(
                f"--trace-config opentelemetry,{name}={value}: allowed are url, resource=<key>=<value>, and with a "
                f"positive number {', '.join(_BATCH_SETTINGS)}"
            )
    return url, resource, batches
