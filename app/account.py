"""The account of one generation: what was reserved, what was used, and when tokens came."""

from collections.abc import Callable, Mapping
from typing import Final

from app.closing import SlimExitStack
from app.inference.requests import FinishReason, GenerationEvent
from app.observability.generations import ModelMetrics
from app.observability.metrics import Metrics, Outcome
from app.observability.time_spent import TimeSpent
from app.observability.trace_context import begin_generation
from app.state.rate_limits import Reservation

_REASONS: Final = {Outcome.STOP: "stop", Outcome.LENGTH: "length", Outcome.CANCELLED: "abort"}
_OUTCOMES: Final = {FinishReason.STOP: Outcome.STOP, FinishReason.LENGTH: Outcome.LENGTH}


class Account:
    """One generation's numbers, told to the metrics as they come.

    Attributes:
        headers: `x-ratelimit-*` of the answer; empty where no limits apply.
        reservation: tokens taken from the caller's limits; None where no limits apply.
        held: what it gives back when it ends: a slot, a place.
        has_started: whether the engine was asked to generate.
        outcome: set by the event that has a finish reason.
        spent: where the time went.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._opened_at = clock()
        self._started_at = self._opened_at
        self._first_token_at = self._last_token_at = 0.0
        self.headers: Mapping[str, str] = {}
        self.reservation: Reservation | None = None
        self.model_id: str | None = None
        self.outcome: Outcome | None = None
        self.held = SlimExitStack()
        self.has_started = False
        self.prompt_tokens = 0
        self.generated_tokens = 0
        self.spent = TimeSpent()
        self._trace = begin_generation()
        self._model: ModelMetrics  # there from the start on

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
        self._started_at = self._clock()
        self.model_id = model_id
        self.prompt_tokens = prompt_tokens
        self._model = self._metrics.generations.of(model_id)
        self._model.running.inc()
        self._model.prompt_tokens.inc(prompt_tokens)
        if self._trace is not None:
            self._trace.started(model_id, prompt_tokens)

    def add(self, event: GenerationEvent) -> None:
        """Note the tokens of an event."""
        now, num_tokens, model = self._clock(), len(event.token_ids), self._model
        named_ms = 0.0 if event.timings is None else self.spent.add_step(event.timings)
        if self._trace is not None and event.timings is not None:
            self._trace.step_finished(event.timings)
        model.tokens.note(num_tokens)
        if num_tokens and not self.generated_tokens:
            self._first_token_at = now
            model.first_token.observe(now - self._opened_at)
        elif num_tokens:
            gap_s = (now - self._last_token_at) / num_tokens
            model.between_tokens.note(gap_s)
            if event.timings is not None and num_tokens == 1:
                model.overhead.note(max(0.0, gap_s - named_ms / 1000))
        self.generated_tokens += num_tokens
        self.spent.num_tokens += num_tokens
        self._last_token_at = now
        if event.finish_reason is not None:
            self.outcome = _OUTCOMES[event.finish_reason]

    def add_beside(self, event: GenerationEvent) -> None:
        """Note the tokens of a further choice of the answer; its times are not this account's."""
        self._model.tokens.note(len(event.token_ids))
        self.generated_tokens += len(event.token_ids)
        if event.finish_reason is not None:
            self.outcome = _OUTCOMES[event.finish_reason]

    def times(self) -> TimeSpent:
        """Return where the time went until now."""
        spent = self.spent
        spent.total_ms = self.age_s * 1e3
        if self.generated_tokens:
            spent.prefill_ms = (self._first_token_at - self._started_at) * 1e3
            spent.decode_ms = (self._last_token_at - self._first_token_at) * 1e3
        return spent

    def close(self, outcome: Outcome) -> None:
        """Note that the generation has ended, and how. Call once."""
        if self.has_started:
            self._model.running.dec()
            self._model.request_ended(
                self.times(),
                _REASONS.get(outcome),
                prompt_tokens=self.prompt_tokens,
                generated_tokens=self.generated_tokens,
            )
        if self._trace is not None:
            self._trace.ended(outcome, self.times(), self.generated_tokens)
