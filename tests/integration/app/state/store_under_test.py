"""Either store, with time that the test moves."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis

from app.state.board import WorkerBoard
from app.state.journals import JournalStore
from app.state.memory import MemoryStateStore
from app.state.rate_limits import RateLimiter
from app.state.redis.board import RedisWorkerBoard
from app.state.redis.connection import RedisConnection
from app.state.redis.journals import RedisJournalStore
from app.state.redis.rate_limiter import RedisRateLimiter


class FakeClock:
    """UTC seconds that stand still until moved; they start at the real time, cut to seconds."""

    def __init__(self) -> None:
        self.now_us = int(time.time()) * 1_000_000

    def __call__(self) -> float:
        return self.now_us / 1_000_000


@dataclass(frozen=True, slots=True)
class StoreUnderTest:
    """The parts of a store; `pass_time(seconds)` makes all believe that time has passed."""

    journals: JournalStore
    rate_limiter: RateLimiter
    board: WorkerBoard
    clock: FakeClock
    pass_time: Callable[[float], Awaitable[None]]


@asynccontextmanager
async def memory_store_under_test() -> AsyncGenerator[StoreUnderTest]:
    """A store in memory on a fake clock."""
    clock = FakeClock()
    store = MemoryStateStore(clock)

    async def pass_time(seconds: float) -> None:
        clock.now_us += round(seconds * 1_000_000)

    yield StoreUnderTest(store.journals, store.rate_limiter, store.board, clock, pass_time)


@asynccontextmanager
async def redis_store_under_test(url: str) -> AsyncGenerator[StoreUnderTest]:
    """An empty store in Redis; time passes by bringing the expiry of every key nearer."""
    clock = FakeClock()
    connection = RedisConnection(url, timeout_s=5.0)
    redis = Redis.from_url(url)
    await redis.flushall()

    async def pass_time(seconds: float) -> None:
        clock.now_us += round(seconds * 1_000_000)
        for key in await redis.keys("*"):
            await redis.pexpire(key, await redis.pttl(key) - round(seconds * 1000))

    yield StoreUnderTest(
        RedisJournalStore(connection),
        RedisRateLimiter(connection, clock),
        RedisWorkerBoard(connection),
        clock,
        pass_time,
    )
    await redis.aclose()
    await connection.close()
