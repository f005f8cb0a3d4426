"""Who may open a session now: number, unique ids, KV memory, and whether the server drains."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from swarm_server.errors import (
    ServerDrainingError,
    SessionNotUniqueError,
    TooManySessionsError,
)
from swarm_server.kv import KVBudget

Session = TypeVar("Session")


class SessionDemand(Protocol):
    """What a session that is to be opened needs, in whichever dialect."""

    @property
    def num_slots(self) -> int:
        """KV memory: tokens times blocks."""

    @property
    def wait_s(self) -> float:
        """How long its caller waits for that, in seconds."""

    @property
    def session_id(self) -> str | None:
        """Unique among those admitted; None where something else names the session."""


@dataclass(frozen=True, slots=True)
class Admitted(Generic[Session]):
    """A session that has begun, and the function that gives back what it needs."""

    session: Session
    release: Callable[[], None]


class Admission:
    """Counts sessions from the moment they ask for KV memory until they have given it back."""

    def __init__(self, budget: KVBudget, *, max_sessions: int) -> None:
        self._is_draining = False
        self.num_sessions = 0
        self._budget = budget
        self._max_sessions = max_sessions
        self._session_ids: set[str] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def is_draining(self) -> bool:
        """Whether new sessions are refused because the server is about to stop."""
        return self._is_draining

    def start_draining(self) -> None:
        """Refuse new sessions from now on."""
        self._is_draining = True

    async def open(self, demand: SessionDemand, begin: Callable[[], Session]) -> Admitted[Session]:
        """Reserve what a session needs, then begin it; where that fails, nothing is reserved.

        Raises:
            as `admit` does, and what `begin` raises.
        """
        release = await self.admit(demand)
        try:
            return Admitted(begin(), release)
        except BaseException:
            release()
            raise

    async def admit(self, demand: SessionDemand) -> Callable[[], None]:
        """Reserve what the session needs; return the function that gives it back.

        Raises:
            ServerDrainingError, TooManySessionsError, SessionNotUniqueError: see the classes.
            KVMemoryError: the memory is not there in time.
        """
        if self._is_draining:
            raise ServerDrainingError
        if self.num_sessions >= self._max_sessions:
            raise TooManySessionsError(self._max_sessions)
        session_id = demand.session_id
        if session_id is not None and session_id in self._session_ids:
            raise SessionNotUniqueError(session_id)
        self._enter(session_id)
        try:
            give_back = await self._budget.reserve(demand.num_slots, wait_s=demand.wait_s)
        except BaseException:
            self._leave(session_id)
            raise

        def release() -> None:
            give_back()
            self._leave(session_id)

        return release

    async def wait_idle(self) -> None:
        """Wait until no session is left."""
        await self._idle.wait()

    def _enter(self, session_id: str | None) -> None:
        self.num_sessions += 1
        self._idle.clear()
        if session_id is not None:
            self._session_ids.add(session_id)

    def _leave(self, session_id: str | None) -> None:
        self.num_sessions -= 1
        if session_id is not None:
            self._session_ids.discard(session_id)
        if self.num_sessions == 0:
            self._idle.set()
