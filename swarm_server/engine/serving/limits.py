"""What bounds the engine, and what it counts."""

from dataclasses import dataclass

from swarm_server.scheduler import BatchLimits


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """How much goes into a batch, and how long steps wait for pages.

    `page_wait_s` is what every step is granted; a session that has not stepped for `rest_s` gives
    its pages to others when they lack some.
    """

    batch: BatchLimits
    page_wait_s: float = 30.0
    rest_s: float = 5.0


@dataclass(slots=True)
class EngineCounters:
    """What the engine has done so far; tokens are counted over all rows."""

    num_batches: int = 0
    num_failed_batches: int = 0
    num_rows: int = 0
    num_tokens: int = 0
    num_prefill_tokens: int = 0
    num_preemptions: int = 0

    def add_batch(self, num_rows: int, num_tokens: int, num_prefill_tokens: int) -> None:
        """Count a batch that has ended."""
        self.num_batches += 1
        self.num_rows += num_rows
        self.num_tokens += num_tokens
        self.num_prefill_tokens += num_prefill_tokens
