"""The gateway's Prometheus metrics, in a registry of their own.

Names are vLLM's where the meaning is equal. Labels come from closed sets: surfaces, outcomes, error
codes and the ids of offered models; never from callers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge

from app.errors import describe_error
from app.observability.exposition import exposition
from app.observability.generations import GenerationMetrics
from app.observability.pulse import PulseMetrics
from app.observability.repairs import RepairMetrics
from swarm_protocol.errors import SwarmError


class Surface(StrEnum):
    """A way to ask for a generation."""

    PETALS_V1 = "petals_v1"
    PETALS_V2 = "petals_v2"
    CHAT = "openai_chat"
    COMPLETIONS = "openai_completions"
    RESPONSES = "openai_responses"
    EMBEDDINGS = "openai_embeddings"
    MESSAGES = "anthropic_messages"


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
        self.requests = Counter(
            "swarmgate_requests",
            "Generations asked for, by surface and how they ended.",
            ["surface", "outcome"],
            registry=registry,
        )
        self.refused = Counter(
            "swarmgate_refused", "Requests refused, by error code.", ["code"], registry=registry
        )
        self.store = Gauge(
            "swarmgate_state_store_ok",
            "1 if the state store answered when the metrics were asked for.",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self.generations = GenerationMetrics(registry)
        self.repairs = RepairMetrics(registry)
        self.pulse = PulseMetrics(registry)

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Count an error that ends this block as a request refused."""
        try:
            yield
        except SwarmError as error:
            self.refused.labels(describe_error(error).code).inc()
            raise

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format; see the function."""
        return exposition(self.registry)
