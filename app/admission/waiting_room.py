"""The slots of one model, and those who wait for one."""

import asyncio
from collections.abc import Callable
from time import monotonic

from app.admission.fair_queue import FairQueue, Refusal, Ticket
from app.admission.wait_estimate import WaitEstimate
from app.errors import QueueFullError, QueueTimeoutError, TooManyWaitingError
from app.settings import LimitSettings


class WaitingRoom:
    """Gives slots: at once while some are free, else to whom `FairQueue` says.

    Used from one event loop only. Whoever has entered must `leave`.
    """

    def __init__(self, limits: LimitSettings, clock: Callable[[], float] = monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._queue = FairQueue(limits.max_waiting, limits.max_waiting_per_key)
        self._turns: dict[Ticket, asyncio.Future[None]] = {}
        self._estimate = WaitEstimate()
        self._num_running = 0

    @property
    def num_waiting(self) -> int:
        """How many wait now."""
        return len(self._turns)

    async def enter(self, tenant: str, *, cost: float, weight: float) -> None:
        """Take a slot, and wait for one if need be; cancelling it gives the place up.

        Raises:
            QueueFullError, TooManyWaitingError, QueueTimeoutError: see the classes.
        """
        timeout_s = self._limits.queue_timeout_s
        ticket = Ticket(tenant, max(1.0, cost), weight, self._clock() + timeout_s)
        if self._num_running < self._limits.max_generations:
            self._queue.add(ticket)
            self._queue.pop(self._clock())  # nobody waits while there are slots
            self._take_slot()
            return
        self._check_room(tenant)
        turn = asyncio.get_running_loop().create_future()
        self._turns[ticket] = turn
        self._queue.add(ticket)
        await self._wait(ticket, turn, timeout_s)

    def enter_now(self) -> bool:
        """Take a slot if one is free, and so nobody waits; its tenant is not charged for it."""
        if self._num_running >= self._limits.max_generations:
            return False
        self._take_slot()
        return True

    def leave(self) -> None:
        """Give the slot back; whoever is next gets it."""
        self._num_running -= 1
        self._estimate.freed(self._clock())
        while self._num_running < self._limits.max_generations:
            ticket = self._queue.pop(self._clock())
            if ticket is None:
                return
            self._take_slot()
            self._turns[ticket].set_result(None)

    async def _wait(self, ticket: Ticket, turn: asyncio.Future[None], timeout_s: float) -> None:
        try:
            # The wait may end in both ways in one moment: a slot that was given is given back.
            await asyncio.wait({turn}, timeout=timeout_s)
        except BaseException:
            if turn.done():
                self.leave()
            raise
        finally:
            del self._turns[ticket]
            self._queue.cancel(ticket)
        if not turn.done():
            raise QueueTimeoutError(timeout_s, self._estimate.wait_s(self.num_waiting))

    def _take_slot(self) -> None:
        self._num_running += 1
        if self._num_running >= self._limits.max_generations:
            self._estimate.filled(self._clock())

    def _check_room(self, tenant: str) -> None:
        retry_after_s = self._estimate.wait_s(self.num_waiting)
        match self._queue.refusal(tenant):
            case Refusal.QUEUE_FULL:
                raise QueueFullError(self._limits.max_waiting, retry_after_s)
            case Refusal.TENANT_FULL:
                raise TooManyWaitingError(self._limits.max_waiting_per_key, retry_after_s)
