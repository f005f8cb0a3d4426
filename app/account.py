"""The account of one generation: what was reserved, what was used, and when tokens came."""

from collections.abc import Callable, Mapping
from typing import Final

from app.inference.requests import FinishReason, GenerationEvent
from app.observability.metrics import Metrics, Outcome
from app.state.rate_limits import Reservation

_OUTCOMES: Final = {FinishReason.STOP: Outcome.STOP, FinishReason.LENGTH: Outcome.LENGTH}


class Account:
    """One generation's numbers, told to the metrics as they come.

    Attributes:
        headers: `x-ratelimit-*` of the answer; empty where no limits apply.
        reservation: tokens taken from the caller's limits; None where no limits apply.
        has_slot: whether it holds one of the slots for generations.
        has_started: whether the engine was asked to generate.
        outcome: set by the event that has a finish reason.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._opened_at = clock()
        self._last_token_at: float | None = None
        self.headers: Mapping[str, str] = {}
        self.reservation: Reservation | None = None
        self.model_id: str | None = None
        self.outcome: Outcome | None = None
        self.has_slot = False
        self.has_started = False
        self.prompt_tokens = 0
        self.generated_tokens = 0

    @property
    def age_s(self) -> float:
        """Seconds since the request came."""
        return self._clock() - self._opened_at

    @property
    def used_tokens(self) -> int:
        """What the limits are charged in the end."""
        return self.prompt_tokens + self.generated_tokens

    def start(self, model_id: str, prompt_tokens: int) -> None:
        """Note that the prompt is on its way through the blocks."""
        self.has_started = True
        self.model_id = model_id
        self.prompt_tokens = prompt_tokens
        self._metrics.running.labels(model_id).inc()
        self._metrics.prompt_tokens.labels(model_id).inc(prompt_tokens)
        self._tokens = self._metrics.generation_tokens.labels(model_id)
        self._token_seconds = self._metrics.token.labels(model_id)
        self._overhead_seconds = self._metrics.overhead.labels(model_id)

    def add(self, event: GenerationEvent) -> None:
        """Note the tokens of an event."""
        now, num_tokens = self._clock(), len(event.token_ids)
        self.generated_tokens += num_tokens
        self._tokens.inc(num_tokens)
        if self._last_token_at is None:
            self._metrics.first_token.labels(self.model_id).observe(now - self._opened_at)
        elif num_tokens:
            gap_s = (now - self._last_token_at) / num_tokens
            self._token_seconds.observe(gap_s)
            if event.timings is not None and num_tokens == 1:
                timings = event.timings
                named_ms = timings.queue_ms + timings.head_ms + sum(timings.hops_ms)
                self._overhead_seconds.observe(max(0.0, gap_s - named_ms / 1000))
        self._last_token_at = now
        if event.finish_reason is not None:
            self.outcome = _OUTCOMES[event.finish_reason]

    def close(self) -> None:
        """Note that the generation has ended, however it did. Call once."""
        if self.has_started:
            self._metrics.running.labels(self.model_id).dec()
