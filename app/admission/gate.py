"""The way in: a surface enters `Admission.admit` once per generation.

What happens inside, an error and a caller who leaves included, is counted, settled and logged
exactly once when it ends.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog

from app.account import Account
from app.admission.caller_limits import (
    connection_limits_of,
    limit_headers,
    limits_of,
    refusal_of,
)
from app.admission.errors import CallerLeftError
from app.admission.open_places import HeldPlace, OpenPlaces, Place
from app.admission.waiting_room import WaitingRoom
from app.background import in_background
from app.callers import Caller
from app.closing import run_to_the_end
from app.errors import INTERNAL_CODE, DrainingError, describe_error
from app.observability.metrics import Metrics, Outcome, Surface
from app.settings import LimitSettings
from app.state.errors import StateUnavailableError
from app.state.rate_limits import PLACE_LEASE_S, Limit, PlaceLimit, RateLimiter, Reservation

log = structlog.get_logger(__name__)

_SETTLE_TIMEOUT_S: Final = 2.0
_RENEW_PERIOD_S: Final = PLACE_LEASE_S / 4


class Admission:
    """Lets requests in. One per app, used from its event loop only.

    Attributes:
        draining: set when nothing new is taken any more.
    """

    def __init__(self, limiter: RateLimiter, limits: LimitSettings, metrics: Metrics) -> None:
        self._limiter = limiter
        self._limits = limits
        self._metrics = metrics
        self._places = OpenPlaces(limits)
        self._rooms: dict[str, WaitingRoom] = defaultdict(lambda: WaitingRoom(limits))
        self._held: dict[str, Reservation] = {}  # those that have places, which are leased
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

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hold on to leased places, while the block runs; what is owed then is settled last."""
        try:
            async with in_background(self._renew_all(), name="places"):
                yield
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(_SETTLE_TIMEOUT_S):
                    await self._renew()

    def place(self, what: Place, caller: Caller) -> HeldPlace:
        """Take one of the places for what can be open, in this gateway; see `OpenPlaces.place`.

        A connection may end before its conversation, and a conversation before its connection.

        Raises:
            BusyError, TooManyOpenError, DrainingError: see the classes.
        """
        if self.is_draining:
            raise DrainingError
        return self._places.place(what, caller)

    @asynccontextmanager
    async def connection(self, caller: Caller) -> AsyncIterator[None]:
        """Hold a place for a WebSocket, here and among those of its key at all gateways.

        Raises:
            BusyError, TooManyOpenError, DrainingError, StateUnavailableError: see the classes.
        """
        with self.place(Place.CONNECTION, caller):
            limits = connection_limits_of(caller, self._limits)
            if not limits:
                yield
                return
            reservation = await self._reserve(limits, 0)
            try:
                yield
            finally:
                await self._settle(reservation, 0)

    @asynccontextmanager
    async def admit(self, surface: Surface) -> AsyncIterator[Account]:
        """Keep the account of one generation; what it takes is taken by `reserve`.

        Raises:
            DrainingError: the gateway is about to stop.
        """
        account = Account(self._metrics, time.perf_counter)
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
            account.held.close()
            try:
                if account.reservation is not None:
                    await self._settle(account.reservation, account.used_tokens)
            finally:
                self._record(surface, account, error)
                self._num_open -= 1
                if self._num_open == 0:
                    self._idle.set()

    async def reserve(self, account: Account, caller: Caller, model_id: str, cost: int) -> None:
        """Take `cost` tokens from the caller's limits, and then a slot of the model.

        For the slot it waits its turn; a caller who leaves meanwhile gives everything back.

        Args:
            cost: tokens of prompt and output at most.

        Raises:
            OutOfScopeError: the caller's key is for other models.
            RateLimitedError, BudgetExhaustedError: requests or tokens are used up.
            TooManyOpenError: as many generations of the caller run as may.
            CostOverBurstError: the limits never allow so many tokens at once.
            QueueFullError, TooManyWaitingError, QueueTimeoutError: there is no slot.
            StateUnavailableError: the store does not answer.
        """
        account.model_id = model_id
        caller.check_model(model_id)
        account.held.enter_context(self._places.place(Place.GENERATION, caller))
        limits = limits_of(caller, self._limits, time.time())
        if limits:
            account.reservation = await self._reserve(limits, cost)
            account.headers = limit_headers(account.reservation.states)
        await self._take_slot(account, caller, model_id, cost)

    def spare_slot(self, model_id: str) -> Callable[[], None] | None:
        """Take a slot of the model that nobody waits for; None if there is none.

        For what an admitted request does beside what it was admitted for; its tokens are reserved.

        Returns:
            What gives the slot back.
        """
        room = self._rooms[model_id]
        return room.leave if room.enter_now() else None

    async def _take_slot(self, account: Account, caller: Caller, model_id: str, cost: int) -> None:
        room, model = self._rooms[model_id], self._metrics.generations.of(model_id)
        began_at = time.perf_counter()
        model.waiting.inc()
        try:
            await room.enter(caller.owner, cost=cost, weight=caller.limits.weight)
        finally:
            model.waiting.dec()
            waited_s = time.perf_counter() - began_at
            account.spent.queue_ms += waited_s * 1e3
            model.queue.observe(waited_s)
        account.held.callback(room.leave)

    async def _reserve(self, limits: Sequence[Limit], cost: int) -> Reservation:
        reservation = await self._limiter.reserve(limits, cost)
        if not reservation.is_allowed:
            raise refusal_of(reservation)
        if any(isinstance(limit, PlaceLimit) for limit in limits):
            self._held[reservation.id] = reservation
        return reservation

    async def _settle(self, reservation: Reservation, used_tokens: int) -> None:
        """Give back what was not used, also when cancelled meanwhile: a caller who leaves behind
        the last token would pay for all he might have had. A store that is away forgets it by
        itself.
        """
        self._held.pop(reservation.id, None)
        await run_to_the_end(self._give_back(reservation, used_tokens))

    async def _give_back(self, reservation: Reservation, used_tokens: int) -> None:
        try:
            async with asyncio.timeout(_SETTLE_TIMEOUT_S):
                await self._limiter.settle(reservation, used_tokens)
        except (StateUnavailableError, TimeoutError):
            log.warning("settling_failed", used_tokens=used_tokens)

    async def _renew_all(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_PERIOD_S)
            await self._renew()

    async def _renew(self) -> None:
        try:
            await self._limiter.renew(list(self._held.values()))
        except StateUnavailableError as error:
            log.warning("places_not_renewed", num=len(self._held), reason=error.reason)

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
