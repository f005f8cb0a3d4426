"""Where the time of one generation went: sums, and how callers are told of them. Pure."""

from dataclasses import dataclass

from app.inference.requests import TokenTimings


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
        head_queue_ms: tokens waiting for a replica.
        head_ms: LM head, sampler and embedding, of the batches the tokens were in.
        hops_ms: hops, thereof `hops_queue_ms` waiting at servers and `hops_compute_ms` in their
            blocks, as far as they tell.
    """

    queue_ms: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0
    total_ms: float = 0.0
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

    def to_json(self) -> dict[str, float]:
        """Return what callers see as `usage.timings`."""
        return {
            "queue_ms": round(self.queue_ms, 2),
            "prefill_ms": round(self.prefill_ms, 2),
            "decode_ms": round(self.decode_ms, 2),
            "hops_ms": round(self.hops_ms, 2),
            "head_ms": round(self.head_queue_ms + self.head_ms, 2),
            "total_ms": round(self.total_ms, 2),
        }

    def server_timing(self) -> str:
        """Return the same as the header `Server-Timing` (W3C), which browsers' tools show."""
        facts = self.to_json().items()
        return ", ".join(f"{name.removesuffix('_ms')};dur={value}" for name, value in facts)
