"""How fast a span is, measured briefly when a server starts, so that routing has numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import torch

from swarm_server.engine.batch import RaggedBatch, SpanRunner
from swarm_server.engine.segments import Segment
from swarm_server.engine.span import Span
from swarm_server.kv import KVLayout

_DECODE_BUDGET_S: Final = 0.1
_MAX_DECODE_STEPS: Final = 16
_PREFILL_TOKENS: Final = 64

MEASURED_TOKENS: Final = 1 + _PREFILL_TOKENS + _MAX_DECODE_STEPS
"""What `measure_speed` writes into the pages, in every layout group."""


@dataclass(frozen=True, slots=True)
class SpanSpeed:
    """Tokens per second through one block: one by one with a KV cache, and in a chunk."""

    decode_rps: float
    prefill_rps: float

    def throughput(self, num_blocks: int) -> float:
        """Return tokens per second of a span, as Petals counts them (PETALS_PROTOCOL §7.3)."""
        return self.prefill_rps / ((num_blocks + 1) / 2)


def measure_speed(
    span: Span,
    runner: SpanRunner,
    layout: KVLayout,
    *,
    clock: Callable[[], float] = perf_counter,
) -> SpanSpeed:
    """Run a few batches of zeros; for the compute thread, before pages are given to anybody.

    Args:
        span: to measure.
        runner: that will run its batches. It has pages for `MEASURED_TOKENS`.
        layout: of the pages.
        clock: in seconds.
    """
    sequence = _Sequence(span, runner, layout)
    num_blocks = len(span.blocks)
    sequence.run(1)  # the first run pays for torch's own preparations
    started_at = clock()
    sequence.run(_PREFILL_TOKENS)
    prefilled_at = clock()
    num_steps, took_s = 0, 0.0
    while num_steps < _MAX_DECODE_STEPS and took_s < _DECODE_BUDGET_S:
        sequence.run(1)
        num_steps += 1
        took_s = clock() - prefilled_at
    return SpanSpeed(
        decode_rps=num_steps * num_blocks / max(took_s, 1e-9),
        prefill_rps=_PREFILL_TOKENS * num_blocks / max(prefilled_at - started_at, 1e-9),
    )


class _Sequence:
    """A sequence in the first pages of all."""

    def __init__(self, span: Span, runner: SpanRunner, layout: KVLayout) -> None:
        num_pages = -(-MEASURED_TOKENS // layout.page_size)
        self._tables = [
            range(group * num_pages, (group + 1) * num_pages) for group in range(layout.num_groups)
        ]
        self._span = span
        self._runner = runner
        self._position = 0

    def run(self, num_tokens: int) -> None:
        """Put the next tokens through all blocks."""
        hidden = torch.zeros(num_tokens, self._span.shape.hidden_size)
        segment = Segment(0, num_tokens, self._position, self._tables)
        self._runner.run(self._span.blocks, RaggedBatch(hidden, [segment]))
        self._position += num_tokens
