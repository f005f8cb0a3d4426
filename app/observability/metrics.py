"""The gateway's Prometheus metrics, in a registry of their own.

Names are vLLM's where the meaning is equal. Labels come from closed sets: surfaces, outcomes, error
codes and the ids of offered models; never from callers.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from app.errors import describe_error
from app.observability.repairs import RepairMetrics
from swarm_protocol.errors import SwarmError

_FIRST_TOKEN_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TOKEN_BUCKETS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_OVERHEAD_BUCKETS_S = (0.0001, 0.0002, 0.0003, 0.0005, 0.001, 0.002, 0.004, 0.01, 0.1)


class Surface(StrEnum):
    """A way to ask for a generation."""

    PETALS_V1 = "petals_v1"
    PETALS_V2 = "petals_v2"
    CHAT = "openai_chat"
    COMPLETIONS = "openai_completions"


class Outcome(StrEnum):
    """How a request ended; exactly one of them is counted."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    FAILED = "failed"


class Metrics:
    """All metrics of one app. Attributes are prometheus_client's metric objects."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        model = ["model_name"]
        self.requests = Counter(
            "swarmgate_requests",
            "Generations asked for, by surface and how they ended.",
            ["surface", "outcome"],
            registry=registry,
        )
        self.refused = Counter(
            "swarmgate_refused", "Requests refused, by error code.", ["code"], registry=registry
        )
        self.running = Gauge(
            "vllm:num_requests_running", "Generations running now.", model, registry=registry
        )
        self.prompt_tokens = Counter(
            "vllm:prompt_tokens", "Prompt tokens processed.", model, registry=registry
        )
        self.generation_tokens = Counter(
            "vllm:generation_tokens", "Tokens generated.", model, registry=registry
        )
        self.first_token = self._histogram(
            "vllm:time_to_first_token_seconds",
            "From the request to its first token.",
            _FIRST_TOKEN_BUCKETS_S,
        )
        self.token = self._histogram(
            "vllm:time_per_output_token_seconds",
            "Between tokens, after the first.",
            _TOKEN_BUCKETS_S,
        )
        self.overhead = self._histogram(
            "swarmgate_overhead_per_token_seconds",
            "The part of the time between tokens spent neither in servers nor in the LM head.",
            _OVERHEAD_BUCKETS_S,
        )
        self.repairs = RepairMetrics(registry)

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Count an error that ends this block as a request refused."""
        try:
            yield
        except SwarmError as error:
            self.refused.labels(describe_error(error).code).inc()
            raise

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, text, ["model_name"], buckets=buckets, registry=self.registry)
