"""Who may use which hop when the chunks of a step run one behind the other. Pure but for waiting.

```
chunk 0     [ hop a ][ hop b ][ hop c ]
chunk 1              [ hop a ][ hop b ][ hop c ]       each server is at work on another chunk
chunk 2                       [ hop a ][ hop b ] …
```
"""

import asyncio


class ChunkTurns:
    """How far each chunk has come; none overtakes the one before it."""

    def __init__(self, num_chunks: int, start: int) -> None:
        """Begin with all chunks before block `start`."""
        self._reached = [start] * num_chunks
        self._moved = [asyncio.Event() for _ in range(num_chunks)]

    def turn(self, index: int) -> "ChunkTurn":
        """Return the place of a chunk, counted from the first."""
        return ChunkTurn(self, index)

    async def wait(self, index: int, block: int) -> None:
        """Wait until the chunk before has been through this block."""
        while index > 0 and self._reached[index - 1] <= block:
            await self._moved[index - 1].wait()

    def move(self, index: int, block: int) -> None:
        """A chunk has come as far as before this block."""
        self._reached[index] = block
        self._moved[index].set()
        self._moved[index] = asyncio.Event()


class ChunkTurn:
    """The place of one chunk."""

    def __init__(self, turns: ChunkTurns, index: int) -> None:
        self._turns = turns
        self._index = index

    async def wait(self, block: int) -> None:
        """Wait until it may run the hop that begins with this block."""
        await self._turns.wait(self._index, block)

    def move(self, block: int) -> None:
        """It has come as far as before this block."""
        self._turns.move(self._index, block)
