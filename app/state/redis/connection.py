"""Calls to Redis: pooled, bounded in time, and with one kind of failure."""

import asyncio
import hashlib
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from app.state.errors import InvalidStateUrlError, StateUnavailableError

_MAX_CONNECTIONS: Final = 32
_SCAN_COUNT: Final = 1000  # keys looked at per round trip

T = TypeVar("T")


class Script:
    """A Lua script and the name under which Redis remembers it."""

    def __init__(self, text: str) -> None:
        self.text: Final = text
        self.sha1: Final = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class RedisConnection:
    """A pool of connections to one Redis.

    A pooled connection that Redis has closed is dialled again before it is used. A call that was
    sent is never sent twice: it may have taken effect although no answer came, and tokens
    appended twice would be worse than an error.

    Args:
        url: may hold credentials; never logged, and in no error.
        timeout_s: bound of one call: wait for a connection, dialling, sending and the answer.

    Raises:
        InvalidStateUrlError: the address cannot be understood.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=_MAX_CONNECTIONS,
                retry=Retry(NoBackoff(), retries=0),
                protocol=2,
                # One deadline around the whole call replaces these; it is cheaper, too.
                timeout=None,
                socket_timeout=None,
                socket_connect_timeout=None,
            )
        except ValueError:
            raise InvalidStateUrlError from None  # its text can hold a part of the password
        self._redis = Redis.from_pool(pool)

    async def ping(self) -> None:
        """Return when Redis answers.

        Raises:
            StateUnavailableError: it does not.
        """
        await self._bounded(self._redis.ping())

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes]) -> Any:
        """Run a script on `keys` and return its answer, strings as bytes.

        Redis forgets scripts when it restarts; then the text goes over once more.

        Raises:
            StateUnavailableError: Redis does not answer or refuses.
        """
        return await self._bounded(self._run(script, keys, args))

    async def run_durably(
        self, script: Script, keys: Sequence[str], args: Sequence[str | bytes]
    ) -> Any:
        """Run a script, and return when what it wrote is in Redis' append-only file, if any.

        Raises:
            StateUnavailableError: Redis does not answer or refuses.
        """
        return await self._bounded(self._run_durably(script, keys, args))

    async def count_keys(self, pattern: str) -> int:
        """Return how many keys match; looks at every key, in bounded steps.

        Raises:
            StateUnavailableError: Redis does not answer or refuses.
        """
        keys = set[bytes | str]()  # a scan may return a key twice
        cursor = 0
        while True:
            cursor, found = await self._bounded(
                self._redis.scan(cursor, match=pattern, count=_SCAN_COUNT)
            )
            keys.update(found)
            if cursor == 0:
                return len(keys)

    async def close(self) -> None:
        """Close all connections; idempotent."""
        await self._redis.aclose()

    async def _run(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes]) -> Any:
        try:
            return await self._redis.evalsha(script.sha1, len(keys), *keys, *args)
        except NoScriptError:
            return await self._redis.eval(script.text, len(keys), *keys, *args)

    async def _run_durably(
        self, script: Script, keys: Sequence[str], args: Sequence[str | bytes]
    ) -> Any:
        async with self._redis.client() as redis:  # it waits for writes of its own connection
            answer = await redis.eval(script.text, len(keys), *keys, *args)
            with suppress(ResponseError):  # Redis keeps no such file, or is older than the command
                await redis.execute_command("WAITAOF", 1, 0, 0)  # type: ignore[no-untyped-call]
            return answer

    async def _bounded(self, call: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except (RedisError, OSError) as error:  # the deadline's TimeoutError is an OSError
            raise StateUnavailableError(type(error).__name__) from error
