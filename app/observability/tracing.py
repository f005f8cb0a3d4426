"""OpenTelemetry traces of requests. Off by default; needs the extra `opentelemetry`.

```
POST /v1/chat/completions         from the first byte to the last; events: servers lost, restored
└── generation                    from admission to its end; sums of all steps
    ├── admission                 limits, queue, opening a session
    ├── prefill                   ┐
    │   ├── hop 0:4 ── hop 4:8    │ and so on for the first steps
    │   └── head                  │
    └── step …                    ┘
```
Attributes never hold prompts, outputs, keys, ids of streams or query strings. The environment
variables of OpenTelemetry hold, e.g. `OTEL_EXPORTER_OTLP_HEADERS`.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from app.observability.generation_spans import GenerationSpans
from app.observability.trace_context import GenerationTrace, current_request
from app.settings.tracing import TracingSettings
from swarm_client.session.events import HopLost, HopRestored, SessionEvent

_EXPORT_TIMEOUT_S: Final = 3.0
_QUEUED_SPANS: Final = 8192  # more than that are dropped: tracing must not hold anybody up


class Tracing:
    """Makes the trace spans of one app. Close it at the end.

    Args:
        provider: takes the spans.
        max_steps: steps of a generation with a span of their own.
    """

    def __init__(self, provider: TracerProvider, *, max_steps: int = 32) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("swarmgate")
        self._max_steps = max_steps
        self._propagator = TraceContextTextMapPropagator()

    @classmethod
    def open(cls, settings: TracingSettings) -> "Tracing":
        """Send spans to the collector of the settings, in batches, from a thread."""
        assert settings.endpoint is not None
        # A caller who sends `traceparent` is drawn into its own trace, but decides on nothing.
        ratio = TraceIdRatioBased(settings.sample_ratio)
        provider = TracerProvider(
            sampler=ParentBased(ratio, remote_parent_sampled=ratio),
            resource=Resource.create(
                {SERVICE_NAME: "swarmgate", SERVICE_VERSION: version("swarmgate")}
            ),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(
            f"{settings.endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_TIMEOUT_S
        )
        provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=_QUEUED_SPANS))
        return cls(provider, max_steps=settings.steps_per_generation)

    async def close(self) -> None:
        """Send what is left. Bounded in time by the exporter's timeout."""
        await asyncio.to_thread(self._provider.shutdown)

    @contextmanager
    def request(self, scope: Scope) -> Iterator["RequestSpans"]:
        """Trace what happens in the block, the tasks that it starts included."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in (b"traceparent", b"tracestate")
        }
        method = scope.get("method", "WEBSOCKET")
        span = self._tracer.start_span(
            str(method),
            self._propagator.extract(headers),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "swarmgate.request_id": _id_of(scope)},
        )
        request = RequestSpans(self, span)
        token = current_request.set(request if span.is_recording() else None)
        try:
            yield request
        finally:
            current_request.reset(token)
            span.update_name(f"{method} {_route_of(scope)}")
            span.end()

    def generation(self, parent: Span) -> GenerationSpans:
        """Begin the spans of a generation."""
        return GenerationSpans(self._tracer, parent, max_steps=self._max_steps)


class RequestSpans:
    """A `RequestTrace` of OpenTelemetry."""

    def __init__(self, tracing: Tracing, span: Span) -> None:
        self._tracing = tracing
        self._span = span
        self._generation: GenerationSpans | None = None

    def answered(self, status: int) -> None:
        """Note the status of the answer."""
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)

    def begin_generation(self) -> GenerationTrace:
        """Begin a generation; see `RequestTrace`."""
        self._generation = self._tracing.generation(self._span)
        return self._generation

    def happened(self, event: SessionEvent) -> None:
        """Note news of the latest generation's session."""
        span = self._span if self._generation is None else self._generation.span
        span.add_event(type(event).__name__, _attributes(event))


def _attributes(event: SessionEvent) -> dict[str, str | float]:
    match event:
        case HopLost() | HopRestored():
            return {f"swarm.{name}": _plain(value) for name, value in asdict(event).items()}
        case _:
            return {"swarm.missing": ", ".join(map(str, event.missing))}


def _plain(value: object) -> str | float:
    return value if isinstance(value, int | float) else str(value)


def _route_of(scope: Scope) -> str:
    """Return the path with its parameters by name: an id of a stream is as good as a key."""
    if "endpoint" not in scope:
        return "(refused)"
    path = str(scope["path"])
    for name, value in scope.get("path_params", {}).items():
        path = path.replace(str(value), f"{{{name}}}") if value else path
    return path


def _id_of(scope: Scope) -> str:
    return str(scope.get("state", {}).get("request_id", ""))
