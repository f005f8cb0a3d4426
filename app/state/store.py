"""The state of the gateway behind one Protocol, and the choice of the store."""

from typing import Protocol

from app.state.board import WorkerBoard
from app.state.journals import JournalStore
from app.state.memory import MemoryStateStore
from app.state.rate_limits import RateLimiter
from app.state.redis import RedisStateStore


class StateStore(Protocol):
    """Everything the gateway remembers between requests."""

    @property
    def journals(self) -> JournalStore:
        """What was asked and answered, until it expires."""

    @property
    def rate_limiter(self) -> RateLimiter:
        """Who may use how much."""

    @property
    def board(self) -> WorkerBoard:
        """What all workers share besides requests."""

    async def check(self) -> None:
        """Return when the store answers.

        Raises:
            StateUnavailableError: it does not.
        """

    async def close(self) -> None:
        """Give back the connections; idempotent."""


def open_state_store(redis_url: str | None) -> StateStore:
    """Return the store in Redis, or the one in memory when there is no address.

    Nothing is dialled yet: a Redis that is away shows at the first call, and is found again by
    a later one. The URL may hold a password; it is not logged and appears in no error.

    Raises:
        InvalidStateUrlError: the address cannot be understood.
    """
    return MemoryStateStore() if redis_url is None else RedisStateStore(redis_url)
