"""One session and whoever sends its steps: the caller, and servers before us that push them.

A step runs once, whichever copy comes first, and its reply goes to the caller. Steps run one at a
time; replies leave in their order. Source: PETALS_PROTOCOL §3.5 and §3.7.
"""

import asyncio
from typing import Final

from swarm_protocol.errors import SwarmError
from swarm_protocol.logs import get_logger
from swarm_server.errors import StepFailedError
from swarm_server.handlers.pusher import Pusher
from swarm_server.handlers.session import Outcome, ServedSession
from swarm_server.handlers.session_frames import SessionFrames
from swarm_server.handlers.step_request import StepRequest

log = get_logger(__name__)

_MAX_PUSHES: Final = 4


class LiveSession:
    """Answers the steps of one session until it ends."""

    def __init__(self, session: ServedSession, frames: SessionFrames, pusher: Pusher) -> None:
        self._session = session
        self._frames = frames
        self._pusher = pusher
        self._turn = asyncio.Lock()
        self._pushes: set[asyncio.Task[None]] = set()

    async def run(self, request: StepRequest | None) -> None:
        """Answer this request and those that follow.

        Raises:
            SwarmError: a step of the caller fails a check, or any step cannot be computed.
        """
        try:
            while request is not None:
                async with self._turn:
                    self._frames.check()
                    checked = self._session.accept(request)
                    if checked is not None:
                        await self._answer(request, await self._session.run(checked))
                request = await self._frames.receive()
        finally:
            pushes = list(self._pushes)
            for task in pushes:
                task.cancel()
            await asyncio.gather(*pushes, return_exceptions=True)

    async def push(self, request: StepRequest) -> None:
        """Take a step from another server; one too many at once is dropped.

        It goes on when that server leaves in the middle.

        Raises:
            RequestRefusedError, MalformedMessageError: the step fails a check; the session goes on.
            SwarmError: it cannot be computed; that ends the session.
        """
        if len(self._pushes) >= _MAX_PUSHES:
            return
        task = asyncio.create_task(self._take(request))
        self._pushes.add(task)
        task.add_done_callback(self._forget)
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    def _forget(self, push: asyncio.Task[None]) -> None:
        """A push has ended; if its server has left, nobody else asks how."""
        self._pushes.discard(push)
        if not push.cancelled():
            push.exception()

    async def _take(self, request: StepRequest) -> None:
        async with self._turn:
            self._frames.check()
            checked = self._session.accept_push(request)
            if checked is None:
                return
            try:
                await self._answer(request, await self._session.run(checked))
            except SwarmError as error:
                self._frames.fail(error)
                raise
            except Exception as error:
                log.exception("pushed_step_crashed")
                failure = StepFailedError()
                self._frames.fail(failure)
                raise failure from error
            self._frames.postpone()

    async def _answer(self, request: StepRequest, outcome: Outcome) -> None:
        await self._frames.send(outcome.hidden)
        if not outcome.has_prompts:
            self._pusher.push(request, outcome.hidden)
