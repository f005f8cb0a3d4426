"""Onlookers that do something in the middle of a generation."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from swarm_client.session import InferenceSession, SessionEvent

_READING_S: Final = 0.1

Action: TypeAlias = Callable[[InferenceSession], None]


class ActsAt:
    """An `Onlooker` that acts when there are so many tokens, or at the first event of a kind.

    Actions run in threads while the generation goes on. One that comes with a token waits until
    those before are done, and so does `finish`.
    """

    def __init__(self, actions: Mapping[int | type[SessionEvent], Action]) -> None:
        self.events: list[SessionEvent] = []
        self._actions = dict(actions)
        self._running: list[asyncio.Future[None]] = []
        self._session: InferenceSession | None = None

    def prefill_begins(self, session: InferenceSession) -> None:
        """Keep the session."""
        self._session = session

    async def token_came(self, num_tokens: int) -> None:
        """Act, if it is time."""
        if num_tokens in self._actions:
            await self.finish()
            self._act(num_tokens)

    def event_came(self, event: SessionEvent) -> None:
        """Keep it, and act if it is the first of its kind."""
        self.events.append(event)
        self._act(type(event))

    async def finish(self) -> None:
        """Wait for what is still being done."""
        await asyncio.gather(*self._running)

    def _act(self, moment: int | type[SessionEvent]) -> None:
        action = self._actions.pop(moment, None)
        if action is not None:
            assert self._session is not None, "set before the first token and event"
            acting = asyncio.to_thread(action, self._session)
            self._running.append(asyncio.ensure_future(acting))


class ReadsWhile:
    """An `Onlooker` that reads ten tokens a second while something is done, and then all the rest.

    It is done in a thread, from the first token on.

    Attributes:
        events: of the session, so far.
        num_read: tokens that had come when it was done; None before.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self.events: list[SessionEvent] = []
        self.num_read: int | None = None
        self._work = work
        self._working: asyncio.Future[None] | None = None

    def prefill_begins(self, session: InferenceSession) -> None:
        """Nothing is done yet."""

    async def token_came(self, num_tokens: int) -> None:
        """Read it, and take the time that takes."""
        if self._working is None:
            self._working = asyncio.ensure_future(asyncio.to_thread(self._work))
        await asyncio.wait([self._working], timeout=_READING_S)
        if self._working.done() and self.num_read is None:
            self.num_read = num_tokens

    def event_came(self, event: SessionEvent) -> None:
        """Keep it."""
        self.events.append(event)

    async def finish(self) -> None:
        """Wait until it is done."""
        if self._working is not None:
            await self._working
