"""Who may generate now: slots, rate limits, and the account of each request.

A surface enters `Admission.admit` once per generation. What happens inside, an error and a caller
who leaves included, is counted, settled and logged exactly once when it ends.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from enum import Enum, auto
from time import perf_counter
from typing import Final

import structlog

from app.account import Account
from app.callers import Caller
from app.errors import INTERNAL_CODE, BusyError, DrainingError, RateLimitedError, describe_error
from app.observability.metrics import Metrics, Outcome, Surface
from app.settings import LimitSettings
from app.state.errors import StateUnavailableError
from app.state.rate_limits import LimitState, RateLimit, RateLimiter

log = structlog.get_logger(__name__)

_SETTLE_TIMEOUT_S: Final = 2.0


class CallerLeftError(Exception):
    """The caller went away; nobody is there to be told."""


class Place(Enum):
    """What may be open as often as `max_conversations` says."""

    CONNECTION = auto()
    CONVERSATION = auto()


class Admission:
    """Lets requests in. One per app, used from its event loop only.

    Attributes:
        draining: set when nothing new is taken any more.
    """

    def __init__(self, limiter: RateLimiter, limits: LimitSettings, metrics: Metrics) -> None:
        self._limiter = limiter
        self._limits = limits
        self._metrics = metrics
        self._num_taken: Counter[Place] = Counter()
        self._num_running = 0
        self._num_open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = asyncio.Event()

    @property
    def is_draining(self) -> bool:
        """Whether nothing new is taken any more."""
        return self.draining.is_set()

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, and wait until what runs has ended, `timeout_s` at most."""
        self.draining.set()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("drain_timed_out", num_open=self._num_open)

    @contextmanager
    def place(self, what: Place) -> Iterator[None]:
        """Hold one of the places for connections, or for conversations that are open.

        A connection may end before its conversation, and a conversation before its connection.

        Raises:
            BusyError, DrainingError: see the classes.
        """
        if self.is_draining:
            raise DrainingError
        if self._num_taken[what] >= self._limits.max_conversations:
            raise BusyError("conversations", self._limits.max_conversations)
        self._num_taken[what] += 1
        try:
            yield
        finally:
            self._num_taken[what] -= 1

    @asynccontextmanager
    async def admit(self, surface: Surface) -> AsyncIterator[Account]:
        """Keep the account of one generation; a slot is taken by `reserve`.

        Raises:
            DrainingError: the gateway is about to stop.
        """
        account = Account(self._metrics, perf_counter)
        error: BaseException | None = None
        self._num_open += 1
        self._idle.clear()
        try:
            if self.is_draining:
                raise DrainingError
            yield account
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._num_running -= account.has_slot
            await self._settle(account)
            self._record(surface, account, error)
            self._num_open -= 1
            if self._num_open == 0:
                self._idle.set()

    async def reserve(self, account: Account, caller: Caller, model_id: str, cost: int) -> None:
        """Take a slot, and `cost` tokens from the caller's limits: prompt and output at most.

        Raises:
            OutOfScopeError: the caller's key is for other models.
            BusyError: all slots are taken.
            RateLimitedError: the tokens are used up.
            CostOverBurstError: the limits never allow so many at once.
            StateUnavailableError: the store does not answer.
        """
        account.model_id = model_id
        caller.check_model(model_id)
        if self._num_running >= self._limits.max_generations:
            raise BusyError("generations", self._limits.max_generations)
        self._num_running += 1
        account.has_slot = True
        limits = self._limits_of(caller)
        if not limits:
            return
        reservation = await self._limiter.reserve(limits, cost)
        account.headers = limit_headers(reservation.states)
        if not reservation.is_allowed:
            raise RateLimitedError(reservation.retry_after_s, account.headers)
        account.reservation = reservation

    def _limits_of(self, caller: Caller) -> Sequence[RateLimit]:
        chosen = self._limits
        limits = []
        if caller.key_id is not None and chosen.key_tokens_per_minute:
            limits.append(
                RateLimit(
                    "key", caller.key_id, chosen.key_tokens_per_minute, chosen.key_burst_tokens
                )
            )
        if chosen.address_tokens_per_minute:
            limits.append(
                RateLimit(
                    "address",
                    caller.address_id,
                    chosen.address_tokens_per_minute,
                    chosen.address_burst_tokens,
                )
            )
        return limits

    async def _settle(self, account: Account) -> None:
        """Give back what was not used; a store that is away forgets the reservation by itself."""
        if account.reservation is None:
            return
        try:
            async with asyncio.timeout(_SETTLE_TIMEOUT_S):
                await self._limiter.settle(account.reservation, account.used_tokens)
        except (StateUnavailableError, TimeoutError):
            log.warning("settling_failed", used_tokens=account.used_tokens)

    def _record(self, surface: Surface, account: Account, error: BaseException | None) -> None:
        outcome = _outcome(account, error)
        code = None if error is None else describe_error(error).code
        self._metrics.requests.labels(surface, outcome).inc()
        if outcome is Outcome.REFUSED and code is not None:
            self._metrics.refused.labels(code).inc()
        account.close(outcome)
        log.info(
            "request_finished",
            surface=surface,
            outcome=outcome,
            error=code if outcome in (Outcome.REFUSED, Outcome.FAILED) else None,
            model=account.model_id,
            prompt_tokens=account.prompt_tokens,
            generated_tokens=account.generated_tokens,
            took_ms=round(account.age_s * 1000, 1),
        )


def limit_headers(states: Sequence[LimitState]) -> Mapping[str, str]:
    """Return the `x-ratelimit-*` headers of the limit that is closest to its end."""
    if not states:
        return {}
    tightest = min(states, key=lambda state: state.remaining)
    return {
        "x-ratelimit-limit-tokens": str(tightest.limit),
        "x-ratelimit-remaining-tokens": str(tightest.remaining),
        "x-ratelimit-reset-tokens": f"{tightest.reset_s}s",
    }


def _outcome(account: Account, error: BaseException | None) -> Outcome:
    """A request whose last token has come is finished, even if its caller leaves before the end."""
    has_left = isinstance(error, CallerLeftError | asyncio.CancelledError)
    if error is None or has_left:
        return account.outcome or Outcome.CANCELLED
    reply = describe_error(error)
    if reply.http_status < 500:
        return Outcome.REFUSED
    is_our_fault = account.has_started or reply.code == INTERNAL_CODE
    return Outcome.FAILED if is_our_fault else Outcome.REFUSED
