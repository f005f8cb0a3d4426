"""The store in Redis, put together."""

from app.state.redis.board import RedisWorkerBoard
from app.state.redis.connection import RedisConnection
from app.state.redis.journals import RedisJournalStore
from app.state.redis.rate_limiter import RedisRateLimiter


class RedisStateStore:
    """Journals and rate limits in Redis.

    While Redis is away every call raises `StateUnavailableError` within `timeout_s`; the first
    call after its return succeeds.

    Args:
        redis_url: `redis://`, `rediss://` or `unix://`; may hold credentials.
        timeout_s: bound of one call, connecting included.

    Raises:
        InvalidStateUrlError: the address cannot be understood.
    """

    def __init__(self, redis_url: str, timeout_s: float = 1.0) -> None:
        self._connection = RedisConnection(redis_url, timeout_s)
        self.journals = RedisJournalStore(self._connection)
        self.rate_limiter = RedisRateLimiter(self._connection)
        self.board = RedisWorkerBoard(self._connection)

    async def check(self) -> None:
        """Ask Redis for a sign of life."""
        await self._connection.ping()

    async def close(self) -> None:
        """Close the connections; idempotent."""
        await self._connection.close()
