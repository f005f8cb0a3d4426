"""The trace spans of one generation. Servers know nothing of traces: hops are drawn from the times
that the session measured, one behind the other.
"""

from collections.abc import Callable
from time import monotonic_ns, time_ns

from opentelemetry.trace import Span, SpanKind, Tracer, set_span_in_context

from app.inference.requests import TokenTimings
from app.observability.time_spent import TimeSpent
from swarm_client.session.timings import HopTiming


def steady_clock() -> Callable[[], int]:
    """Return a clock of Unix nanoseconds that never goes back, as the machine's own may."""
    offset_ns = time_ns() - monotonic_ns()
    return lambda: offset_ns + monotonic_ns()


class GenerationSpans:
    """A `GenerationTrace` of OpenTelemetry.

    Args:
        parent: of the request.
        max_steps: steps behind the prefill with a span of their own.
        clock: Unix time in nanoseconds; must not go back.
    """

    def __init__(
        self,
        tracer: Tracer,
        parent: Span,
        *,
        max_steps: int,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._tracer = tracer
        self._max_steps = max_steps
        self._clock = clock or steady_clock()
        self.span = tracer.start_span("generation", set_span_in_context(parent))
        self._context = set_span_in_context(self.span)
        self._admission = tracer.start_span("admission", self._context)
        self._num_steps = 0
        self._step_began_ns = 0

    def started(self, model_id: str, prompt_tokens: int) -> None:
        """The prompt is on its way through the blocks."""
        self._step_began_ns = self._clock()
        self._admission.end()
        self.span.set_attribute("gen_ai.request.model", model_id)
        self.span.set_attribute("gen_ai.usage.input_tokens", prompt_tokens)

    def step_finished(self, timings: TokenTimings) -> None:
        """Draw a step, unless enough have been drawn."""
        ended_ns = self._clock()
        if self._num_steps <= self._max_steps:
            self._draw_step("step" if self._num_steps else "prefill", timings, ended_ns)
        self._num_steps += 1
        self._step_began_ns = ended_ns

    def ended(self, outcome: str, spent: TimeSpent, generated_tokens: int) -> None:
        """Sum up what the steps took, those without a span as well."""
        if self._admission.is_recording():  # it never started
            self._admission.end()
        self.span.set_attribute("swarmgate.outcome", outcome)
        self.span.set_attribute("gen_ai.usage.output_tokens", generated_tokens)
        for name, value in spent.parts().items():
            self.span.set_attribute(f"swarmgate.{name}", value)
        self.span.end()

    def _draw_step(self, name: str, timings: TokenTimings, ended_ns: int) -> None:
        step = self._tracer.start_span(name, self._context, start_time=self._step_began_ns)
        context = set_span_in_context(step)
        head_began_ns = ended_ns - _ns(timings.head_ms)
        hops_ended_ns = max(self._step_began_ns, head_began_ns - _ns(timings.queue_ms))
        hops_ns = sum(_ns(hop.took_ms) for hop in timings.hops)
        # The chunks of a prompt run at several hops at once: hops can take longer than the step.
        scale = min(1.0, (hops_ended_ns - self._step_began_ns) / max(1, hops_ns))
        at_ns = hops_ended_ns - int(hops_ns * scale)
        for hop in timings.hops:
            span = self._tracer.start_span(
                f"hop {hop.blocks}",
                context,
                kind=SpanKind.CLIENT,
                attributes=_hop_attributes(hop),
                start_time=at_ns,
            )
            at_ns += int(_ns(hop.took_ms) * scale)
            span.end(at_ns)
        head = self._tracer.start_span(
            "head",
            context,
            attributes={"swarm.queue_ms": timings.queue_ms},
            start_time=max(self._step_began_ns, head_began_ns),
        )
        head.end(ended_ns)
        step.end(ended_ns)


def _hop_attributes(hop: HopTiming) -> dict[str, str | float]:
    """A time that the server does not tell is not there."""
    times = {
        "swarm.took_ms": hop.took_ms,
        "swarm.queue_ms": hop.queue_ms,
        "swarm.compute_ms": hop.compute_ms,
    }
    known = {name: value for name, value in times.items() if value is not None}
    return {"swarm.peer": hop.peer, "swarm.blocks": str(hop.blocks), **known}


def _ns(milliseconds: float) -> int:
    return int(milliseconds * 1e6)
