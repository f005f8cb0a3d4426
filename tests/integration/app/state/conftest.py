"""Fixtures of the state tests."""

from collections.abc import AsyncGenerator, Iterator

import pytest

from tests.harness.redis_server import RedisServer, redis_server
from tests.integration.app.state.store_under_test import (
    StoreUnderTest,
    memory_store_under_test,
    redis_store_under_test,
)


@pytest.fixture(scope="package")
def shared_redis() -> Iterator[RedisServer]:
    """One Redis for the tests that leave it running."""
    with redis_server() as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
async def store(
    request: pytest.FixtureRequest, shared_redis: RedisServer
) -> AsyncGenerator[StoreUnderTest]:
    """Each store in turn, empty: what passes on both is the contract."""
    opened = (
        memory_store_under_test()
        if request.param == "memory"
        else redis_store_under_test(shared_redis.url)
    )
    async with opened as under_test:
        yield under_test
