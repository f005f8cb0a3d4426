"""The trace spans of requests."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from time import time_ns

import httpx2
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from app.inference.requests import TokenTimings
from app.main import create_app
from app.observability.generation_spans import GenerationSpans, steady_clock
from app.observability.trace_context import begin_generation
from app.observability.tracing import Tracing
from app.settings import Settings
from swarm_client.session.events import HopLost
from swarm_client.session.timings import HopTiming
from swarm_protocol.identifiers import BlockRange, PeerId
from tests.harness.scripted_engine import ScriptedEngine, scripted_gateway

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "secret words"}], "stream": True}
TRACE = "0af7651916cd43dd8448eb211c80319c"
HOPS = (
    HopTiming(PeerId("QmFirst"), BlockRange(0, 4), 4.0, queue_ms=0.5, compute_ms=2.5),
    HopTiming(PeerId("QmSecond"), BlockRange(4, 8), 3.0),
)


class _Traced:
    """The real app with an exporter that keeps its spans."""

    def __init__(self, engine: ScriptedEngine, *, max_steps: int = 2) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        tracing = Tracing(provider, max_steps=max_steps)
        self.app = create_app(Settings(), gateway=scripted_gateway(engine), tracing=tracing)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx2.AsyncClient]:
        transport = httpx2.ASGITransport(self.app)
        async with (
            self.app.router.lifespan_context(self.app),
            httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client,
        ):
            yield client

    async def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> None:
        async with self.client() as client:
            await client.post(path, json=body, headers=headers)

    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        (span,) = [span for span in self.spans() if span.name == name]
        return span


def _parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


async def test_request_generation_steps_and_hops_are_nested() -> None:
    """The tree is the way of a token."""
    traced = _Traced(ScriptedEngine("ab"))

    await traced.post("/v1/chat/completions", CHAT)

    request = traced.named("POST /v1/chat/completions")
    generation, prefill = traced.named("generation"), traced.named("prefill")
    hops = [span for span in traced.spans() if span.name == "hop 0:8"]
    assert _parent_of(generation) == request.context.span_id
    assert _parent_of(prefill) == _parent_of(traced.named("admission"))
    assert _parent_of(prefill) == generation.context.span_id
    assert _parent_of(hops[0]) == prefill.context.span_id
    assert len({span.context.trace_id for span in traced.spans()}) == 1


async def test_steps_over_the_limit_have_no_span_but_are_summed_up() -> None:
    """A long answer must not be a thousand spans."""
    traced = _Traced(ScriptedEngine("abcdefgh"), max_steps=2)

    await traced.post("/v1/chat/completions", CHAT)

    names = [span.name for span in traced.spans()]
    assert (names.count("prefill"), names.count("step"), names.count("hop 0:8")) == (1, 2, 3)
    attributes = dict(traced.named("generation").attributes or {})
    assert attributes["gen_ai.usage.output_tokens"] == 9
    assert attributes["swarmgate.outcome"] == "stop"


async def test_traceparent_of_the_caller_is_taken_in() -> None:
    """W3C trace context: the caller's trace goes on here."""
    traced = _Traced(ScriptedEngine())
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}

    await traced.post("/v1/chat/completions", CHAT, headers)

    request = traced.named("POST /v1/chat/completions")
    assert f"{request.context.trace_id:032x}" == TRACE
    assert _parent_of(request) == 0xB7AD6B7169203331


@pytest.mark.parametrize("broken", ["", "00-0-0-01", "zz" * 30, f"00-{'0' * 32}-{'0' * 16}-01"])
async def test_broken_traceparent_begins_a_new_trace(broken: str) -> None:
    """It must harm nothing."""
    traced = _Traced(ScriptedEngine())

    await traced.post("/v1/chat/completions", CHAT, {"traceparent": broken})

    assert traced.named("POST /v1/chat/completions").parent is None


async def test_refused_request_has_its_status() -> None:
    """Its generation ends without steps."""
    traced = _Traced(ScriptedEngine())

    await traced.post("/v1/chat/completions", CHAT | {"model": "other"})

    attributes = traced.named("POST /v1/chat/completions").attributes or {}
    assert attributes["http.response.status_code"] == 404
    assert (traced.named("generation").attributes or {})["swarmgate.outcome"] == "refused"


async def test_spans_hold_no_prompt_no_output_and_no_id_of_a_stream() -> None:
    """Whoever reads traces need not be allowed to read chats, or to resume streams."""
    traced, journal_id = _Traced(ScriptedEngine("whispered")), "0123456789abcdef" * 2

    async with traced.client() as client:
        await client.post("/v1/chat/completions", json=CHAT)
        await client.get(f"/api/v1/streams/{journal_id}")
        await client.post("/api/v1/generate?model=demo&inputs=secret&max_new_tokens=2")

    told = "".join(span.to_json() for span in traced.spans())
    assert "POST /api/v1/generate" in told
    assert "GET /api/v1/streams/{journal_id}" in told
    assert not any(word in told for word in ("secret", "whispered", journal_id))


async def test_repairs_are_events_of_the_generation() -> None:
    """A gap in a stream has its reason beside it."""
    engine = ScriptedEngine("ab")
    engine.num_before_hold = 1
    traced = _Traced(engine)

    posting = asyncio.create_task(traced.post("/v1/chat/completions", CHAT))
    await engine.is_holding.wait()
    assert engine.on_event is not None
    engine.on_event(HopLost(PeerId("QmFirst"), BlockRange(0, 4), "late"))
    engine.released.set()
    await posting

    (event,) = traced.named("generation").events
    assert (event.name, (event.attributes or {})["swarm.reason"]) == ("HopLost", "late")


async def test_watching_machines_are_not_traced() -> None:
    """They ask every few seconds."""
    traced = _Traced(ScriptedEngine())

    await traced.post("/metrics", {})

    assert traced.spans() == []


def test_hops_are_drawn_one_behind_the_other_and_end_before_the_head() -> None:
    """Where a server does not tell its part, there is no such attribute."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    parent = provider.get_tracer("test").start_span("request")
    clock = iter([1_000_000_000, 1_009_000_000])
    spans = GenerationSpans(
        provider.get_tracer("test"), parent, max_steps=2, clock=lambda: next(clock)
    )

    spans.started("demo", 3)
    spans.step_finished(TokenTimings(queue_ms=0.5, hops=HOPS, head_ms=1.0))

    first, second, head, step = exporter.get_finished_spans()[-4:]
    drawn_ms = {
        span.name: ((span.start_time or 0) / 1e6 - 1000, (span.end_time or 0) / 1e6 - 1000)
        for span in (first, second, head, step)
    }
    assert drawn_ms == {
        "hop 0:4": (0.5, 4.5),
        "hop 4:8": (4.5, 7.5),
        "head": (8.0, 9.0),
        "prefill": (0.0, 9.0),
    }
    assert "swarm.compute_ms" in (first.attributes or {})
    assert "swarm.compute_ms" not in (second.attributes or {})


def test_hops_that_took_longer_than_their_step_are_drawn_within_it() -> None:
    """The chunks of a prompt run at several hops at once."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    clock = iter([1_000_000_000, 1_003_500_000])
    spans = GenerationSpans(
        tracer, tracer.start_span("request"), max_steps=2, clock=lambda: next(clock)
    )

    spans.started("demo", 3)
    spans.step_finished(TokenTimings(queue_ms=0.0, hops=HOPS, head_ms=0.0))

    first, second, _, step = exporter.get_finished_spans()[-4:]
    assert first.start_time == step.start_time == 1_000_000_000
    assert first.end_time == second.start_time == 1_002_000_000
    assert second.end_time == step.end_time == 1_003_500_000


def test_clock_of_steps_is_unix_time_that_never_goes_back() -> None:
    """The machine's own is set now and then, and a step would end before it begins."""
    clock = steady_clock()

    readings = [clock() for _ in range(100)]

    assert readings == sorted(readings)
    assert abs(readings[0] - time_ns()) < 60e9


def test_request_that_is_not_sampled_has_no_trace() -> None:
    """Its tokens are compared with None and nothing more."""
    tracing = Tracing(TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))

    with tracing.request({"type": "http", "method": "GET", "path": "/", "headers": []}):
        assert begin_generation() is None
