"""How much KV memory a server has promised, and to whom it may promise more.

Counted in slots: room for keys and values of one token in one block. Nothing is allocated here.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from swarm_server.errors import KVMemoryError


class KVBudget:
    """Grants slots first come, first served.

    It may grant more than there are: sessions seldom use all that they ask for.
    """

    def __init__(self, *, num_slots: int, slot_bytes: int, overcommit: float = 1.0) -> None:
        """Begin with nothing granted.

        Args:
            num_slots: that there are; nobody is granted more by himself.
            slot_bytes: of memory for one slot.
            overcommit: how many times as many are granted altogether; at least 1.
        """
        self.num_slots = int(num_slots * overcommit)
        self.slot_bytes = slot_bytes
        self._max_slots = num_slots
        self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def slots_left(self) -> int:
        """Slots that may still be granted."""
        return self.num_slots - self._used

    async def reserve(self, num_slots: int, *, wait_s: float) -> Callable[[], None]:
        """Take slots, waiting for others to give them back if need be.

        Returns:
            A function that gives them back; calling it twice is the same as once.

        Raises:
            KVMemoryError: more than there are, or not free within `wait_s` seconds.
        """
        wanted_bytes = num_slots * self.slot_bytes
        if num_slots > self._max_slots:
            raise KVMemoryError.over_total(wanted_bytes, self._max_slots * self.slot_bytes)
        if self._waiting or num_slots > self.slots_left:
            if wait_s <= 0:
                raise KVMemoryError.full(wanted_bytes, 0)
            await self._wait(num_slots, wait_s)
        else:
            self._used += num_slots
        return self._giving_back(num_slots)

    def check_integrity(self) -> None:
        """Assert what holds whenever nothing runs."""
        assert 0 <= self._used <= self.num_slots
        assert not self._waiting or self._waiting[0][0] > self.slots_left

    async def _wait(self, num_slots: int, wait_s: float) -> None:
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (num_slots, granted)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(wait_s):
                await granted
        except BaseException as error:
            self._withdraw(entry)
            if isinstance(error, TimeoutError):
                raise KVMemoryError.full(num_slots * self.slot_bytes, wait_s) from None
            raise

    def _withdraw(self, entry: tuple[int, asyncio.Future[None]]) -> None:
        num_slots, granted = entry
        if granted.done() and not granted.cancelled():  # granted in the very moment of leaving
            self._used -= num_slots
        elif entry in self._waiting:
            self._waiting.remove(entry)
        self._grant_waiting()

    def _giving_back(self, num_slots: int) -> Callable[[], None]:
        held = num_slots

        def give_back() -> None:
            nonlocal held
            self._used -= held
            held = 0
            self._grant_waiting()

        return give_back

    def _grant_waiting(self) -> None:
        while self._waiting:
            num_slots, granted = self._waiting[0]
            if num_slots > self.slots_left and not granted.cancelled():
                return
            self._waiting.popleft()
            if not granted.cancelled():  # who has left but not yet run takes nothing
                self._used += num_slots
                granted.set_result(None)
