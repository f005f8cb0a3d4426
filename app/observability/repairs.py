"""Metrics of servers lost in the middle of a session, and of how long callers waited for it."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from swarm_client.session.events import HopLost, HopRestored, SessionEvent, WaitingForBlocks

_REASONS = ("late", "slow", "leaving")
_GAP_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60, 120)


class RepairMetrics:
    """Counts what sessions tell. The label is the id of an offered model."""

    def __init__(self, registry: CollectorRegistry) -> None:
        model = ["model_name"]
        self._lost = Counter(
            "swarmgate_hops_lost",
            "Servers given up in a session: failed, late, slow, or leaving by their own word.",
            [*model, "reason"],
            registry=registry,
        )
        self._replayed_tokens = Counter(
            "swarmgate_replayed_tokens",
            "Tokens sent once more to servers that took over.",
            model,
            registry=registry,
        )
        self._gap = Histogram(
            "swarmgate_repair_gap_seconds",
            "For how long a step stood still because of one lost server.",
            model,
            buckets=_GAP_BUCKETS_S,
            registry=registry,
        )
        self._wait = Histogram(
            "swarmgate_blocks_wait_seconds",
            "Thereof, for servers to join; only repairs that had to wait.",
            model,
            buckets=_GAP_BUCKETS_S,
            registry=registry,
        )

    def observe(self, model_id: str, event: SessionEvent) -> None:
        """Count one event."""
        match event:
            case HopLost():
                reason = event.reason if event.reason in _REASONS else "failed"
                self._lost.labels(model_id, reason).inc()
            case HopRestored():
                self._replayed_tokens.labels(model_id).inc(event.num_replayed_tokens)
                self._gap.labels(model_id).observe(event.gap_s)
                if event.waited_s:
                    self._wait.labels(model_id).observe(event.waited_s)
            case WaitingForBlocks():
                pass  # its end is told by `HopRestored`, or by an error
