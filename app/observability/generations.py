"""Metrics of generations, per model. The label is the id of an offered model, never a caller's.

Names are vLLM's where the meaning is equal (vLLM 0.11, `vllm/v1/metrics/loggers.py`).
"""

from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.observability.tallies import TalliedCounter, TalliedHistogram
from app.observability.time_spent import TimeSpent

_FIRST_TOKEN_BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TOKEN_BUCKETS_S: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_OVERHEAD_BUCKETS_S: Final = (0.0001, 0.0002, 0.0003, 0.0005, 0.001, 0.002, 0.004, 0.01, 0.1)
_REQUEST_BUCKETS_S: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
_TOKENS_BUCKETS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)
_MODEL: Final = "model_name"


class GenerationMetrics:
    """All of them; `of` gives those of one model."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._models: dict[str, ModelMetrics] = {}
        self.running = self._gauge("vllm:num_requests_running", "Generations running now.")
        self.waiting = self._gauge("vllm:num_requests_waiting", "Generations waiting for a slot.")
        self.prompt_tokens = self._counter("vllm:prompt_tokens", "Prompt tokens processed.")
        self.tokens = TalliedCounter(
            "vllm:generation_tokens", "Tokens generated.", [_MODEL], registry=registry
        )
        self.success = self._counter(
            "vllm:request_success", "Generations that ended well, or were left.", "finished_reason"
        )
        self.first_token = self._histogram(
            "vllm:time_to_first_token_seconds",
            "From the request to its first token.",
            _FIRST_TOKEN_BUCKETS_S,
        )
        self.between_tokens = TalliedHistogram(
            "vllm:inter_token_latency_seconds",
            "Between tokens.",
            [_MODEL],
            buckets=_TOKEN_BUCKETS_S,
            registry=registry,
        )
        self.overhead = TalliedHistogram(
            "swarmgate_overhead_per_token_seconds",
            "The part of the time between tokens spent neither in servers nor in the LM head.",
            [_MODEL],
            buckets=_OVERHEAD_BUCKETS_S,
            registry=registry,
        )
        self._add_request_histograms()
        self._add_step_counters()

    def of(self, model_id: str) -> "ModelMetrics":
        """Return those of an offered model, with all labels looked up once."""
        if model_id not in self._models:
            self._models[model_id] = ModelMetrics(self, model_id)
        return self._models[model_id]

    def tell_tokens(self) -> None:
        """Show what was noted of tokens; see `tallies`."""
        for model in self._models.values():
            model.tell_tokens()

    def _add_request_histograms(self) -> None:
        self.latency = self._histogram(
            "vllm:e2e_request_latency_seconds", "From the request to its end.", _REQUEST_BUCKETS_S
        )
        self.queue = self._histogram(
            "vllm:request_queue_time_seconds", "Waiting for a slot.", _REQUEST_BUCKETS_S
        )
        self.prefill = self._histogram(
            "vllm:request_prefill_time_seconds",
            "From the start in the swarm to the first token.",
            _REQUEST_BUCKETS_S,
        )
        self.decode = self._histogram(
            "vllm:request_decode_time_seconds",
            "From the first token to the last.",
            _REQUEST_BUCKETS_S,
        )
        self.token_mean = self._histogram(
            "vllm:request_time_per_output_token_seconds",
            "Mean time between the tokens of a request.",
            _TOKEN_BUCKETS_S,
        )
        self.request_prompt = self._histogram(
            "vllm:request_prompt_tokens", "Prompt tokens of a request.", _TOKENS_BUCKETS
        )
        self.request_tokens = self._histogram(
            "vllm:request_generation_tokens", "Tokens generated for a request.", _TOKENS_BUCKETS
        )

    def _add_step_counters(self) -> None:
        self.steps = self._counter("swarmgate_steps", "Trips along a route.")
        self.hop_visits = self._counter("swarmgate_hop_visits", "Hops of all those trips.")
        self.hop_seconds = self._counter(
            "swarmgate_hop_seconds",
            "Time in hops: waiting at servers (queue), in their blocks (compute), and the rest "
            "(network; all of it where a server does not tell).",
            "part",
        )
        self.head_seconds = self._counter(
            "swarmgate_head_seconds",
            "Time of tokens waiting for a replica (queue), and in LM head and sampler (compute).",
            "part",
        )

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(
            name, text, [_MODEL], registry=self._registry, multiprocess_mode="livesum"
        )  # of all workers that live

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, [_MODEL, *labels], registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, text, [_MODEL], buckets=buckets, registry=self._registry)


class ModelMetrics:
    """The metrics of one model's generations."""

    def __init__(self, metrics: GenerationMetrics, model_id: str) -> None:
        self.model_id = model_id
        self.running = metrics.running.labels(model_id)
        self.waiting = metrics.waiting.labels(model_id)
        self.prompt_tokens = metrics.prompt_tokens.labels(model_id)
        self.tokens = metrics.tokens.labels(model_id)
        self.first_token = metrics.first_token.labels(model_id)
        self.between_tokens = metrics.between_tokens.labels(model_id)
        self.overhead = metrics.overhead.labels(model_id)
        self.queue = metrics.queue.labels(model_id)
        self._metrics = metrics
        self._latency = metrics.latency.labels(model_id)
        self._prefill = metrics.prefill.labels(model_id)
        self._decode = metrics.decode.labels(model_id)
        self._token_mean = metrics.token_mean.labels(model_id)
        self._request_prompt = metrics.request_prompt.labels(model_id)
        self._request_tokens = metrics.request_tokens.labels(model_id)
        self._steps = metrics.steps.labels(model_id)
        self._hop_visits = metrics.hop_visits.labels(model_id)
        hops, head = metrics.hop_seconds, metrics.head_seconds
        self._hops_queue = hops.labels(model_id, "queue")
        self._hops_compute = hops.labels(model_id, "compute")
        self._hops_network = hops.labels(model_id, "network")
        self._head_queue = head.labels(model_id, "queue")
        self._head_compute = head.labels(model_id, "compute")

    def tell_tokens(self) -> None:
        """Show what was noted of tokens."""
        self.tokens.tell()
        self.between_tokens.tell()
        self.overhead.tell()

    def steps_taken(self, spent: TimeSpent) -> None:
        """Count the steps of a generation that has ended."""
        self._steps.inc(spent.num_steps)
        self._hop_visits.inc(spent.num_hop_visits)
        self._hops_queue.inc(spent.hops_queue_ms / 1e3)
        self._hops_compute.inc(spent.hops_compute_ms / 1e3)
        self._hops_network.inc(spent.hops_network_ms / 1e3)
        self._head_queue.inc(spent.head_queue_ms / 1e3)
        self._head_compute.inc(spent.head_ms / 1e3)

    def request_ended(
        self, spent: TimeSpent, reason: str | None, *, prompt_tokens: int, generated_tokens: int
    ) -> None:
        """Count a generation that has ended.

        Args:
            reason: `stop`, `length`, `abort` for one whose caller left; None for an error.
        """
        self.tell_tokens()
        self.steps_taken(spent)
        if reason is not None:
            self._metrics.success.labels(self.model_id, reason).inc()
        self._latency.observe(spent.total_ms / 1e3)
        self._request_prompt.observe(prompt_tokens)
        self._request_tokens.observe(generated_tokens)
        if generated_tokens:
            self._prefill.observe(spent.prefill_ms / 1e3)
            self._decode.observe(spent.decode_ms / 1e3)
        if generated_tokens > 1:
            self._token_mean.observe(spent.decode_ms / 1e3 / (generated_tokens - 1))
