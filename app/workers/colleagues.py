"""What this worker knows of the others: who leads, what the leader has found, what is offered."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from random import Random
from time import monotonic
from typing import Final
from uuid import uuid4

import structlog

from app.background import in_background
from app.state.backoff import Backoff
from app.state.board import LEASE_S, BoardView, Finding, WorkerBoard
from app.state.errors import StateUnavailableError

log = structlog.get_logger(__name__)

_PERIOD_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 8.0
_RESIGN_TIMEOUT_S: Final = 1.0


class Colleagues:
    """Looks at the board again and again. Used from one event loop; `looking` owns its task.

    While the store is away nobody leads, findings grow old, and the offer stays as it was.

    Args:
        clock: seconds that never go back.
        random: spreads the attempts of many workers after an outage.
    """

    def __init__(
        self,
        board: WorkerBoard,
        *,
        clock: Callable[[], float] = monotonic,
        random: Random | None = None,
    ) -> None:
        self._board = board
        self._clock = clock
        self._random = random or Random()
        self._backoff = Backoff(2 * _PERIOD_S, _LONGEST_PAUSE_S, self._random.random)
        self._view = BoardView(term=None)
        self._looked_at = clock()
        self._leads_until = 0.0
        self._has_looked = asyncio.Event()
        self.worker_id = uuid4().hex

    @property
    def is_leading(self) -> bool:
        """Whether nobody else can lead now."""
        return self._view.term is not None and self._clock() < self._leads_until

    @property
    def offer(self) -> Mapping[str, bytes]:
        """Changes of the offer, as of the last look."""
        return self._view.offer

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """Look while the block runs; at its end, let another worker lead."""
        try:
            async with in_background(self._run(), name="colleagues"):
                yield
        finally:
            with suppress(StateUnavailableError, TimeoutError):
                async with asyncio.timeout(_RESIGN_TIMEOUT_S):
                    await self._board.resign(self.worker_id)

    async def look(self) -> None:
        """Look now.

        Raises:
            StateUnavailableError: the store does not answer.
        """
        started_at = self._clock()  # the lease began later: we give up before others may take it
        view = await self._board.look(self.worker_id)
        if (view.term is None) != (self._view.term is None):
            log.info("leading_changed", is_leading=view.term is not None)
        self._view, self._looked_at = view, started_at
        self._leads_until = started_at + LEASE_S

    async def next_look(self) -> None:
        """Wait until the board has been looked at once more."""
        self._has_looked.clear()
        await self._has_looked.wait()

    def finding(self, name: str) -> Finding | None:
        """Return what the leader has found, with its age now."""
        found = self._view.findings.get(name)
        if found is None:
            return None
        return Finding(found.value, found.age_s + self._clock() - self._looked_at)

    async def publish(self, name: str, value: bytes) -> None:
        """Tell the others, if we lead; a store that is away is told the next finding."""
        if self._view.term is None or not self.is_leading:
            return
        with suppress(StateUnavailableError):
            await self._board.publish(self._view.term, {name: value})

    async def change_offer(self, name: str, change: bytes) -> None:
        """Have all workers offer something else.

        Raises:
            StateUnavailableError: the store does not answer; nobody may have learned of it.
        """
        await self._board.change_offer(name, change)

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
                if self._backoff.succeeded():
                    log.info("board_available_again")
                self._has_looked.set()
            except StateUnavailableError as error:
                if self._backoff.failed(self._clock()):
                    log.warning("board_unavailable", reason=error.reason)
            period_s = _PERIOD_S * self._random.uniform(0.8, 1.0)
            await asyncio.sleep(max(period_s, self._backoff.wait_s))
