"""How many forward and backward requests a server holds, and when it takes none."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from swarm_server.errors import (
    RequestExpiredError,
    ServerDrainingError,
    TooManyRequestsError,
)

_WAITING_PER_RUNNING: Final = 8


class TrainingAdmission:
    """Lets a few requests in at a time; others wait before their tensors are unpacked."""

    def __init__(self, *, max_running: int, timeout_s: float) -> None:
        """Admit nobody yet.

        Args:
            max_running: how many requests are unpacked, computed or answered at once; eight times
                as many may wait for it.
            timeout_s: how long a request may take, its wait included.
        """
        self._turns = asyncio.Semaphore(max_running)
        self._max_requests = max_running * (1 + _WAITING_PER_RUNNING)
        self._timeout_s = timeout_s
        self._deadlines: set[asyncio.Timeout] = set()
        self._is_draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    def start_draining(self) -> None:
        """Refuse new requests from now on."""
        self._is_draining = True

    def end_all(self) -> None:
        """Refuse new requests and end those that are here."""
        self._is_draining = True
        now = asyncio.get_running_loop().time()
        for deadline in self._deadlines:
            if not deadline.expired():
                deadline.reschedule(now)

    async def wait_idle(self) -> None:
        """Wait until no request is left."""
        await self._idle.wait()

    @asynccontextmanager
    async def admit(self) -> AsyncIterator[None]:
        """Wait for a turn, and hold it for the block.

        Raises:
            ServerDrainingError, TooManyRequestsError, RequestExpiredError: see the classes; the
                block is cancelled when its time is over.
        """
        if self._is_draining:
            raise ServerDrainingError
        if len(self._deadlines) >= self._max_requests:
            raise TooManyRequestsError(self._max_requests)
        deadline = asyncio.timeout(self._timeout_s)
        self._enter(deadline)
        try:
            async with deadline, self._turns:
                yield
        except TimeoutError:
            if self._is_draining:
                raise ServerDrainingError from None
            raise RequestExpiredError(self._timeout_s) from None
        finally:
            self._leave(deadline)

    def _enter(self, deadline: asyncio.Timeout) -> None:
        self._deadlines.add(deadline)
        self._idle.clear()

    def _leave(self, deadline: asyncio.Timeout) -> None:
        self._deadlines.discard(deadline)
        if not self._deadlines:
            self._idle.set()
