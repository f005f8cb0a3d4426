"""Where the time of one generation went: sums, and how callers are told of them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from app.inference.requests import TokenTimings

Timings: TypeAlias = Mapping[str, float]
"""What callers see as `usage.timings`; see `TimeSpent.to_json`."""


@dataclass(slots=True)
class TimeSpent:
    """Milliseconds of one generation so far.

    ```
    request ──queue──▶ admitted ──────▶ started ──prefill──▶ first token ──decode──▶ last token
    └────────────────────────────────── total ─────────────────────────────────────────────────▶ end
    ```
    Hops and head are summed over all steps, prefill and decode alike.

    Attributes:
        queue_ms: waiting for a slot.
        num_tokens: that came within prefill and decode, of one choice.
        head_queue_ms: tokens waiting for a replica.
        head_ms: LM head, sampler and embedding, of the batches the tokens were in.
        hops_ms: hops, thereof `hops_queue_ms` waiting at servers and `hops_compute_ms` in their
            blocks, as far as they tell.
    """

    queue_ms: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0
    total_ms: float = 0.0
    num_tokens: int = 0
    num_steps: int = 0
    num_hop_visits: int = 0
    hops_ms: float = 0.0
    hops_queue_ms: float = 0.0
    hops_compute_ms: float = 0.0
    head_queue_ms: float = 0.0
    head_ms: float = 0.0

    @property
    def hops_network_ms(self) -> float:
        """The part of the hops that no server has claimed."""
        return max(0.0, self.hops_ms - self.hops_queue_ms - self.hops_compute_ms)

    def add_step(self, timings: TokenTimings) -> float:
        """Note a step, and return what hops and head took of it, in milliseconds."""
        step_ms = 0.0
        for hop in timings.hops:
            step_ms += hop.took_ms
            self.hops_queue_ms += hop.queue_ms or 0.0
            self.hops_compute_ms += hop.compute_ms or 0.0
        self.num_steps += 1
        self.num_hop_visits += len(timings.hops)
        self.hops_ms += step_ms
        self.head_queue_ms += timings.queue_ms
        self.head_ms += timings.head_ms
        return step_ms + timings.queue_ms + timings.head_ms

    @property
    def tokens_per_s(self) -> float:
        """The pace of the tokens behind the first; 0 while there are none."""
        return (self.num_tokens - 1) * 1e3 / self.decode_ms if self.decode_ms > 0 else 0.0

    def to_json(self) -> dict[str, float]:
        """Return what callers see as `usage.timings`: the parts of the time, and what they hold."""
        return {
            **self.parts(),
            "tokens_per_s": round(self.tokens_per_s, 2),
            "num_steps": self.num_steps,
            "num_hop_visits": self.num_hop_visits,
            "hops_queue_ms": round(self.hops_queue_ms, 2),
            "hops_compute_ms": round(self.hops_compute_ms, 2),
            "hops_network_ms": round(self.hops_network_ms, 2),
        }

    def parts(self) -> dict[str, float]:
        """Return the parts of the time, in milliseconds."""
        return {
            "queue_ms": round(self.queue_ms, 2),
            "prefill_ms": round(self.prefill_ms, 2),
            "decode_ms": round(self.decode_ms, 2),
            "hops_ms": round(self.hops_ms, 2),
            "head_ms": round(self.head_queue_ms + self.head_ms, 2),
            "total_ms": round(self.total_ms, 2),
        }

    def server_timing(self) -> str:
        """Return the parts as the header `Server-Timing` (W3C), which browsers' tools show."""
        facts = self.parts().items()
        return ", ".join(f"{name.removesuffix('_ms')};dur={value}" for name, value in facts)
