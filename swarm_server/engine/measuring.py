"""How fast a span is, measured briefly when a server starts, so that routing has numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from time import perf_counter
from typing import Final

import torch

from swarm_server.engine.batch import RaggedBatch, SpanRunner
from swarm_server.engine.segments import Segment
from swarm_server.engine.span import Span
from swarm_server.kv import KVLayout

_DECODE_BUDGET_S: Final = 0.1
_MAX_DECODE_STEPS: Final = 16

_CHUNKS: Final = (32, 64, 256)
"""Tokens of the chunks measured; the first two are as long as usual prompts of chats."""

_HARDLY_CHEAPER: Final = 0.9
"""A chunk that takes more than this part of two halves is worth none of the waiting for it."""

_SHORT_S: Final = 0.1
"""Where a chunk takes less it is measured once more, for something else may have been at work, and
a longer one as well.
"""

LEAST_TOKENS: Final = _CHUNKS[1] + _MAX_DECODE_STEPS
"""What `measure_speed` writes into the pages at least, in every layout group."""


@dataclass(frozen=True, slots=True)
class SpanSpeed:
    """Tokens per second through one block: one by one with a KV cache, and in a chunk.

    `chunks` are the tokens and the seconds of chunks through the whole span, the shorter first.
    """

    decode_rps: float
    prefill_rps: float
    chunks: Sequence[tuple[int, float]]

    def throughput(self, num_blocks: int) -> float:
        """Return tokens per second of a span, as Petals counts them (PETALS_PROTOCOL §7.3)."""
        return self.prefill_rps / ((num_blocks + 1) / 2)

    def chunk_within(self, time_s: float) -> int:
        """Return how many tokens of a chunk go through the span in so many seconds.

        A chunk costs something however short it is, and then so much for each token; with what one
        alone has taken, all of it is put down to the tokens. Where tokens are no cheaper together
        it is the shortest measured, at most: others need not wait for longer ones.
        """
        num_tokens, took_s = self.chunks[0]
        if took_s >= time_s or len(self.chunks) == 1:
            return int(num_tokens * time_s / took_s)
        more_tokens, longer_s = self.chunks[1]
        if longer_s > _HARDLY_CHEAPER * took_s * more_tokens / num_tokens:
            return num_tokens
        (num_tokens, took_s), (more_tokens, longer_s) = self.chunks[-2:]
        token_s = (longer_s - took_s) / (more_tokens - num_tokens)
        token_s = max(token_s, longer_s / more_tokens / 2)  # the shorter one was disturbed
        return max(self.chunks[0][0], num_tokens + int((time_s - took_s) / token_s))


def measure_speed(
    span: Span,
    runner: SpanRunner,
    layout: KVLayout,
    num_tokens: int,
    *,
    clock: Callable[[], float] = perf_counter,
) -> SpanSpeed:
    """Run a few batches of zeros; for the compute thread, before pages are given to anybody.

    Args:
        span: to measure.
        runner: that will run its batches.
        layout: of the pages.
        num_tokens: for which it has pages, at least `LEAST_TOKENS`.
        clock: in seconds.
    """
    assert num_tokens >= LEAST_TOKENS
    sequence = _Sequence(span, runner, layout, num_tokens)
    num_blocks = len(span.blocks)
    sequence.run(1)  # the first run pays for torch's own preparations
    chunks = list[tuple[int, float]]()
    for chunk_tokens in _CHUNKS:
        if chunk_tokens <= num_tokens:
            chunks.append((chunk_tokens, _chunk_s(sequence, chunk_tokens, clock)))
        if chunks[-1][1] >= _SHORT_S:
            break
    chunk_tokens, chunk_s = chunks[:2][-1]
    sequence.position = chunk_tokens
    num_steps, took_s, started_at = 0, 0.0, clock()
    while num_steps < _MAX_DECODE_STEPS and took_s < _DECODE_BUDGET_S:
        sequence.run(1)
        num_steps += 1
        took_s = clock() - started_at
    return SpanSpeed(
        decode_rps=num_steps * num_blocks / max(took_s, 1e-9),
        prefill_rps=chunk_tokens * num_blocks / chunk_s,
        chunks=chunks,
    )


def _chunk_s(sequence: "_Sequence", num_tokens: int, clock: Callable[[], float]) -> float:
    """Return what a chunk at the beginning takes, > 0."""
    best_s = inf
    for _ in range(2):
        sequence.position = 0
        started_at = clock()
        sequence.run(num_tokens)
        best_s = min(best_s, clock() - started_at)
        if best_s >= _SHORT_S:
            break
    return max(best_s, 1e-9)


class _Sequence:
    """A sequence in the first pages of all; `position` may be set back."""

    def __init__(self, span: Span, runner: SpanRunner, layout: KVLayout, num_tokens: int) -> None:
        num_pages = -(-min(num_tokens, _CHUNKS[-1]) // layout.page_size)
        self._tables = [
            range(group * num_pages, (group + 1) * num_pages) for group in range(layout.num_groups)
        ]
        self._span = span
        self._runner = runner
        self.position = 0

    def run(self, num_tokens: int) -> None:
        """Put the next tokens through all blocks, in segments as long as usual prompts."""
        hidden = torch.zeros(num_tokens, self._span.shape.hidden_size)
        segments = [
            Segment(start, min(start + _CHUNKS[1], num_tokens), self.position + start, self._tables)
            for start in range(0, num_tokens, _CHUNKS[1])
        ]
        self._runner.run(self._span.blocks, RaggedBatch(hidden, segments))
        self.position += num_tokens
