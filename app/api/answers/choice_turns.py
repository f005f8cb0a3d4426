"""Which choices of one answer run at the same time. Pure, but for waiting.

Slots protect the rows of the engine, and each choice that runs is a row. An answer has waited for
one slot; its further choices run beside the first only in slots that nobody waits for, and one
after the other in the answer's own while there are none. So `n` gets nobody past the queue, and no
answer waits for a slot while it holds one.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

from app.journals.bell import Bell

_MAX_ABREAST: Final = 4

SpareSlot: TypeAlias = Callable[[], Callable[[], None] | None]
"""Takes a slot that nobody waits for, and returns what gives it back; None if there is none."""


class ChoiceTurns:
    """The turns of one answer's choices; it holds a slot itself."""

    def __init__(self, spare_slot: SpareSlot) -> None:
        self._spare_slot = spare_slot
        self._own_is_free = True
        self._num_running = 0
        self._has_ended = Bell()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until one more choice may run, and let it."""
        while (give_back := self._take()) is None:
            await self._has_ended.wait()
        self._num_running += 1
        try:
            yield
        finally:
            self._num_running -= 1
            give_back()
            self._has_ended.ring()

    def _take(self) -> Callable[[], None] | None:
        if self._num_running >= _MAX_ABREAST:
            return None
        if self._own_is_free:
            self._own_is_free = False
            return self._free_own
        return self._spare_slot()

    def _free_own(self) -> None:
        self._own_is_free = True
