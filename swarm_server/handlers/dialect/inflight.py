"""Flow control of streams: how many tokens are between arrival and reply."""

import asyncio


class AllInflight:
    """What all streams of a server have in work together.

    While that is more than `limit`, a stream goes on as long as it has less than an equal share:
    nobody keeps others out, and all together have less than twice as much.
    """

    def __init__(self, limit: int) -> None:
        self.num_tokens = 0
        self._limit = limit
        self._streams = set[InflightTokens]()

    @property
    def share(self) -> int:
        """How many tokens each stream may have, at least one."""
        return max(1, self._limit // max(1, len(self._streams)))

    @property
    def is_full(self) -> bool:
        """Whether streams may have no more than their share."""
        return self.num_tokens >= self._limit

    def enter(self, stream: "InflightTokens") -> None:
        """A stream begins, with nothing in work."""
        self._streams.add(stream)

    def leave(self, stream: "InflightTokens") -> None:
        """A stream ends; nobody waits for what it has in work. Idempotent."""
        if stream in self._streams:
            self._streams.remove(stream)
            self.remove(stream.num_tokens)
            self._look_again()

    def remove(self, num_tokens: int) -> None:
        """Tokens of a stream have been answered, or never will be."""
        was_full = self.is_full
        self.num_tokens -= num_tokens
        if was_full and not self.is_full:
            self._look_again()

    def check_integrity(self) -> None:
        """Assert that this counts what the streams that there are have in work."""
        assert self.num_tokens == sum(stream.num_tokens for stream in self._streams)

    def _look_again(self) -> None:
        for stream in self._streams:
            stream.look_again()


class InflightTokens:
    """Counts tokens of one stream; who reads it waits here for room."""

    def __init__(self, limit: int, everywhere: AllInflight) -> None:
        """Begin with nothing in work.

        Args:
            limit: at which nothing more is read.
            everywhere: counts them as well, until `leave`.
        """
        self.num_tokens = 0
        self._limit = limit
        self._everywhere = everywhere
        self._has_left = False
        self._has_room = asyncio.Event()
        everywhere.enter(self)

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be taken in."""
        num_tokens, everywhere = self.num_tokens, self._everywhere
        return num_tokens >= self._limit or (everywhere.is_full and num_tokens >= everywhere.share)

    def add(self, num_tokens: int) -> None:
        """Count tokens that have arrived."""
        self.num_tokens += num_tokens
        if not self._has_left:
            self._everywhere.num_tokens += num_tokens

    def remove(self, num_tokens: int) -> None:
        """Tokens have been answered, or never will be."""
        self.num_tokens -= num_tokens
        assert self.num_tokens >= 0
        if not self._has_left:
            self._everywhere.remove(num_tokens)
        self._has_room.set()

    def leave(self) -> None:
        """The stream has ended, whatever it has in work. Idempotent."""
        self._has_left = True
        self._everywhere.leave(self)

    def look_again(self) -> None:
        """Let whoever waits for room look whether there is some."""
        self._has_room.set()

    async def wait_for_room(self) -> None:
        """Wait until more may be taken in."""
        while self.is_full:
            self._has_room.clear()
            await self._has_room.wait()
