"""Puts an engine together for a span that has been loaded."""

from typing import Final

from swarm_protocol.logs import get_logger
from swarm_server.engine import ComputeThread, Span
from swarm_server.engine.batch import SpanRunner
from swarm_server.engine.cuda import make_gpu_runner
from swarm_server.engine.eager_runner import EagerRunner
from swarm_server.engine.measuring import SpanSpeed
from swarm_server.engine.page_storage import PageStorage
from swarm_server.engine.serving import Engine, EngineLimits, PagedSpan
from swarm_server.kv import KVLayout, KVMemory
from swarm_server.scheduler import BatchLimits
from swarm_server.settings import ServerSettings

log = get_logger(__name__)

_MIN_CHUNK_TOKENS: Final = 16


def build_engine(
    span: Span, compute: ComputeThread, settings: ServerSettings, speed: SpanSpeed
) -> Engine:
    """Return the engine of a server; its KV memory is reserved here, on the compute thread.

    Args:
        span: that it runs.
        compute: where it does so.
        settings: of the server.
        speed: of the span; a chunk of a prompt takes about `max_chunk_ms`.
    """
    layout = KVLayout(span.windows, settings.page_size)
    num_pages = layout.num_groups * -(-settings.kv_tokens // settings.page_size)
    storage = PageStorage(
        layout,
        num_pages,
        num_kv_heads=span.shape.num_kv_heads,
        head_dim=span.shape.head_dim,
        dtype=span.dtype,
        device=span.device,
    )
    limits = EngineLimits(
        BatchLimits(
            max_batch_tokens=settings.max_batch_tokens,
            chunk_tokens=choose_chunk(speed, len(span.blocks), settings),
            max_rows=settings.max_batch_rows,
        ),
        page_wait_s=settings.page_wait_s,
    )
    runner = _choose_runner(span, storage)
    paged = PagedSpan(runner, storage, span.shape.hidden_size, span.dtype)
    log.info(
        "engine_built",
        num_pages=num_pages,
        page_size=settings.page_size,
        chunk_tokens=limits.batch.chunk_tokens,
    )
    return Engine(paged, KVMemory(num_pages, layout), compute, limits)


def _choose_runner(span: Span, storage: PageStorage) -> SpanRunner:
    eager = EagerRunner(span, storage)
    return eager if span.device == "cpu" else make_gpu_runner(span, storage, eager)


def choose_chunk(speed: SpanSpeed, num_blocks: int, settings: ServerSettings) -> int:
    """Return how many tokens of prompts go through the span in about `max_chunk_ms`."""
    num_tokens = int(speed.prefill_rps / num_blocks * settings.max_chunk_ms / 1e3)
    return min(settings.max_batch_tokens, max(_MIN_CHUNK_TOKENS, num_tokens))
