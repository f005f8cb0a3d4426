"""Puts an engine together for a span that has been loaded."""

from dataclasses import dataclass
from time import perf_counter, thread_time
from typing import Final

from swarm_protocol.logs import get_logger
from swarm_server.engine import ComputeThread, Span
from swarm_server.engine.batch import SpanRunner
from swarm_server.engine.cuda import make_gpu_runner
from swarm_server.engine.eager_runner import EagerRunner
from swarm_server.engine.measuring import LEAST_TOKENS, SpanSpeed, measure_speed
from swarm_server.engine.page_storage import PageStorage
from swarm_server.engine.reference_parts import reference_parts
from swarm_server.engine.serving import Engine, EngineLimits, PagedSpan
from swarm_server.kv import KVLayout, KVMemory
from swarm_server.scheduler import BatchLimits
from swarm_server.settings import ServerSettings

log = get_logger(__name__)

_MIN_CHUNK_TOKENS: Final = 16


@dataclass(frozen=True, slots=True)
class ReadySpan:
    """A span with the runner and the pages that it is served with, and how fast it is."""

    paged: PagedSpan
    memory: KVMemory
    speed: SpanSpeed


def prepare_span(span: Span, settings: ServerSettings) -> ReadySpan:
    """Reserve KV memory for a span and measure it; for the compute thread."""
    layout = KVLayout(span.windows, settings.page_size)
    num_tokens = max(settings.kv_tokens, LEAST_TOKENS)
    num_pages = layout.num_groups * -(-num_tokens // settings.page_size)
    storage = PageStorage(
        layout,
        num_pages,
        num_kv_heads=span.shape.num_kv_heads,
        head_dim=span.shape.head_dim,
        dtype=span.dtype,
        device=span.device,
    )
    runner = _choose_runner(span, storage)
    # On a CPU what this thread computes: servers that start at once take cores from each other.
    clock = thread_time if span.device == "cpu" else perf_counter
    speed = measure_speed(span, runner, layout, num_tokens, clock=clock)
    paged = PagedSpan(runner, storage, span.shape.hidden_size, span.dtype)
    return ReadySpan(paged, KVMemory(num_pages, layout), speed)


def build_engine(ready: ReadySpan, compute: ComputeThread, settings: ServerSettings) -> Engine:
    """Return the engine of a server; `compute` is where it runs the span."""
    limits = EngineLimits(
        BatchLimits(
            max_batch_tokens=settings.max_batch_tokens,
            chunk_tokens=choose_chunk(ready.speed, settings),
            max_rows=settings.max_batch_rows,
        ),
        page_wait_s=settings.page_wait_s,
    )
    log.info(
        "engine_built",
        num_pages=ready.memory.num_pages,
        page_size=settings.page_size,
        chunk_tokens=limits.batch.chunk_tokens,
    )
    return Engine(ready.paged, ready.memory, compute, limits)


def _choose_runner(span: Span, storage: PageStorage) -> SpanRunner:
    eager = EagerRunner(span, storage)
    if span.device != "cpu":
        return make_gpu_runner(span, storage, eager)
    if parts := reference_parts(span):
        log.info("reference_path_used", parts=parts)
    return eager


def choose_chunk(speed: SpanSpeed, settings: ServerSettings) -> int:
    """Return how many tokens of prompts go through the span in about `max_chunk_ms`."""
    num_tokens = speed.chunk_within(settings.max_chunk_ms / 1e3)
    return min(settings.max_batch_tokens, max(_MIN_CHUNK_TOKENS, num_tokens))
