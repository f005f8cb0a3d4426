"""Keeps an event loop from falling asleep while sessions decode.

A loop that sleeps is woken by the system, and a thread that waits for a GPU must wake it: on a
virtual machine each takes about 0.1 ms, of a decode step of 2, and what runs then has left the
processor's caches. So the loop of a server with a GPU asks it instead of being told, and goes on
turning for a while after a batch, because whoever decodes will be back; a client may do so while
outputs are on their way. It costs one core. Waiting for a CUDA event costs that, too: the driver
asks all the time.
"""

import asyncio
from collections.abc import Callable
from typing import Final

LINGER_S: Final = 0.01
"""How long to stay awake after a batch: as long as the slowest step of other servers."""


class BusyPolling:
    """Turns the event loop until told to stop; for that loop only."""

    def __init__(self, clock: Callable[[], float], linger_s: float = LINGER_S) -> None:
        """Begin asleep.

        Args:
            clock: in seconds.
            linger_s: how long to stay awake after `stay_awake`.
        """
        self._clock = clock
        self._linger_s = linger_s
        self._until = 0.0
        self._is_turning = False
        self._poll: Callable[[], None] | None = None

    def watch(self, poll: Callable[[], None]) -> None:
        """Call `poll` each time the loop turns, until `stop_watching`."""
        self._poll = poll
        self._turn_on()

    def stop_watching(self) -> None:
        """Call nothing any more, but stay awake for a while."""
        self._poll = None
        self.stay_awake()

    def stay_awake(self) -> None:
        """Turn the loop for a while from now on; a further call makes it longer."""
        self._until = self._clock() + self._linger_s
        self._turn_on()

    def _turn_on(self) -> None:
        if not self._is_turning:
            self._is_turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._is_turning = False
        if self._poll is not None:
            self._poll()
        if self._poll is not None or self._clock() < self._until:
            self._turn_on()
