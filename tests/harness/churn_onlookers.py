"""An onlooker that does something in the middle of a generation."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeAlias

from swarm_client.session import InferenceSession, SessionEvent

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
