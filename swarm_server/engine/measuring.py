"""How fast a span is, measured briefly when a server starts, so that routing has numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import torch

from swarm_server.engine.span import Span, Step

_DECODE_BUDGET_S: Final = 0.1
_MAX_DECODE_STEPS: Final = 16
_PREFILL_TOKENS: Final = 64


@dataclass(frozen=True, slots=True)
class SpanSpeed:
    """Tokens per second through one block: one by one with a KV cache, and in a chunk."""

    decode_rps: float
    prefill_rps: float

    def throughput(self, num_blocks: int) -> float:
        """Return tokens per second of a span, as Petals counts them (PETALS_PROTOCOL §7.3)."""
        return self.prefill_rps / ((num_blocks + 1) / 2)


def measure_speed(span: Span, *, clock: Callable[[], float] = perf_counter) -> SpanSpeed:
    """Run a few steps of random hidden states; for the compute thread."""
    num_blocks = len(span.blocks)
    max_length = _PREFILL_TOKENS + _MAX_DECODE_STEPS + 1
    kv = span.new_kv(span.blocks, batch_size=1, max_length=max_length)
    chunk = torch.zeros(1, _PREFILL_TOKENS, span.shape.hidden_size)
    token = chunk[:, :1]
    span.run(span.blocks, kv, Step(token))  # the first run pays for torch's own preparations
    started_at = clock()
    span.run(span.blocks, kv, Step(chunk))
    prefilled_at = clock()
    num_steps, took_s = 0, 0.0
    while num_steps < _MAX_DECODE_STEPS and took_s < _DECODE_BUDGET_S:
        span.run(span.blocks, kv, Step(token))
        num_steps += 1
        took_s = clock() - prefilled_at
    return SpanSpeed(
        decode_rps=num_steps * num_blocks / max(took_s, 1e-9),
        prefill_rps=_PREFILL_TOKENS * num_blocks / max(prefilled_at - started_at, 1e-9),
    )
