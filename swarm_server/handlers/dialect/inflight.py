"""Flow control of one stream: how many tokens are between arrival and reply."""

import asyncio


class InflightTokens:
    """Counts tokens; who reads the stream waits here for room."""

    def __init__(self, limit: int) -> None:
        self.num_tokens = 0
        self._limit = limit
        self._has_room = asyncio.Event()
        self._has_room.set()

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be taken in."""
        return self.num_tokens >= self._limit

    def add(self, num_tokens: int) -> None:
        """Count tokens that have arrived."""
        self.num_tokens += num_tokens
        if self.num_tokens >= self._limit:
            self._has_room.clear()

    def remove(self, num_tokens: int) -> None:
        """Tokens have been answered, or never will be."""
        self.num_tokens -= num_tokens
        assert self.num_tokens >= 0
        if self.num_tokens < self._limit:
            self._has_room.set()

    async def wait_for_room(self) -> None:
        """Wait until there are fewer tokens than the limit."""
        await self._has_room.wait()
