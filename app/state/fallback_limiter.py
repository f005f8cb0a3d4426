"""Limits while the shared store is away: each gateway grants a fraction of them by itself.

What could not be settled is settled later, once: nothing that was used is forgotten while this
process lives, and nothing that was not used stays charged.
"""

# ruff: noqa: D102 - the methods are described once, in their Protocol

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from app.state.backoff import Backoff
from app.state.errors import StateUnavailableError
from app.state.memory_limiter import MemoryRateLimiter
from app.state.rate_limits import (
    Budget,
    Limit,
    LimitState,
    PlaceLimit,
    RateLimit,
    RateLimiter,
    RequestLimit,
    Reservation,
)

log = structlog.get_logger(__name__)

_MAX_OWED: Final = 100_000
_FIRST_WAIT_S: Final = 0.25
_MAX_WAIT_S: Final = 5.0


class FallbackRateLimiter:
    """`RateLimiter` in front of a shared one.

    Args:
        fraction: of each limit, granted here while the shared one does not answer. With 0 every
            call raises then, as the shared one does.
        clock: returns UTC seconds.
    """

    def __init__(
        self,
        shared: RateLimiter,
        fraction: float,
        clock: Callable[[], float] = time.time,
        backoff: Backoff | None = None,
    ) -> None:
        self._shared = shared
        self._local = MemoryRateLimiter(clock)
        self._fraction = fraction
        self._clock = clock
        self._backoff = backoff or Backoff(_FIRST_WAIT_S, _MAX_WAIT_S)
        self._local_ids: set[str] = set()
        # To be settled when the shared one is back; of the oldest ones, too many are forgotten.
        self._owed: deque[tuple[Reservation, int]] = deque(maxlen=_MAX_OWED)

    async def reserve(self, limits: Sequence[Limit], cost_tokens: int) -> Reservation:
        if self._backoff.may_try(self._clock()):
            try:
                reservation = await self._shared.reserve(limits, cost_tokens)
            except StateUnavailableError as error:
                self._note_failure(error)
            else:
                self._note_success()
                return reservation
        if not self._fraction:
            raise StateUnavailableError("asked again later")
        reduced = [_reduced(limit, self._fraction, cost_tokens) for limit in limits]
        reservation = await self._local.reserve(reduced, cost_tokens)
        if reservation.is_allowed:
            self._local_ids.add(reservation.id)
        return reservation

    async def settle(self, reservation: Reservation, used_tokens: int) -> tuple[LimitState, ...]:
        if reservation.id in self._local_ids:
            self._local_ids.discard(reservation.id)
            budgets = tuple(limit for limit in reservation.limits if isinstance(limit, Budget))
            if budgets and used_tokens:
                debt = replace(reservation, cost_tokens=0, limits=budgets)
                self._owed.append((debt, used_tokens))
            return await self._local.settle(reservation, used_tokens)
        if self._backoff.may_try(self._clock()):
            try:
                return await self._shared.settle(reservation, used_tokens)
            except StateUnavailableError as error:
                self._note_failure(error)
            except BaseException:  # nobody waits for the answer any more
                self._owed.append((reservation, used_tokens))
                raise
        self._owed.append((reservation, used_tokens))
        return reservation.states

    async def renew(self, reservations: Sequence[Reservation]) -> None:
        """Renew, and settle what is owed."""
        local = [r for r in reservations if r.id in self._local_ids]
        await self._local.renew(local)
        await self._settle_owed()
        await self._shared.renew([r for r in reservations if r.id not in self._local_ids])

    async def _settle_owed(self) -> None:
        while self._owed:
            reservation, used_tokens = self._owed[0]
            await self._shared.settle(reservation, used_tokens)
            self._owed.popleft()

    def _note_failure(self, error: StateUnavailableError) -> None:
        if self._backoff.failed(self._clock()):
            log.warning("shared_limits_are_away", reason=error.reason, fraction=self._fraction)

    def _note_success(self) -> None:
        if self._backoff.succeeded():
            log.info("shared_limits_are_back", num_owed=len(self._owed))


def _reduced(limit: Limit, fraction: float, cost_tokens: int) -> Limit:
    """Return what of a limit is granted here; one request that fits into the whole still fits."""

    def part(value: int, least: int = 1) -> int:
        return min(value, max(least, math.floor(value * fraction)))

    match limit:
        case RateLimit():
            return replace(
                limit,
                tokens_per_minute=part(limit.tokens_per_minute),
                burst_tokens=part(limit.burst_tokens, max(1, cost_tokens)),
            )
        case RequestLimit():
            return replace(limit, requests_per_minute=part(limit.requests_per_minute))
        case Budget():
            return replace(limit, max_tokens=part(limit.max_tokens, max(1, cost_tokens)))
        case PlaceLimit():
            return replace(limit, max_places=part(limit.max_places))
