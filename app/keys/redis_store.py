"""Keys in Redis: one hash, from a key's id to its record as JSON."""

# ruff: noqa: D102 - the methods are described once, in their Protocol

from collections.abc import Sequence
from typing import Final

from pydantic import ValidationError

from app.keys.records import KeyRecord
from app.state.errors import StateUnavailableError
from app.state.redis.connection import RedisConnection, Script

_KEYS: Final = "swarmgate:keys"

_FIND: Final = Script("return redis.call('HGET', KEYS[1], ARGV[1])")
_FIND_ALL: Final = Script("return redis.call('HVALS', KEYS[1])")
# ARGV: id, version of the record as it was or 0, the new record.
_REPLACE: Final = Script("""
local stored = redis.call('HGET', KEYS[1], ARGV[1])
local version = stored and cjson.decode(stored).version or 0
if version ~= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
""")


class RedisKeyStore:
    """`KeyStore` in Redis."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection

    async def find(self, key_id: str) -> KeyRecord | None:
        data = await self._connection.run(_FIND, [_KEYS], [key_id])
        return None if data is None else _decode(data)

    async def find_all(self) -> Sequence[KeyRecord]:
        records = [_decode(data) for data in await self._connection.run(_FIND_ALL, [_KEYS], [])]
        return sorted(records, key=lambda record: (record.created_at, record.id))

    async def replace(self, old: KeyRecord | None, new: KeyRecord) -> bool:
        args = [new.id, str(old.version if old else 0), new.model_dump_json()]
        return bool(await self._connection.run_durably(_REPLACE, [_KEYS], args))

    async def close(self) -> None:
        await self._connection.close()


def _decode(data: bytes) -> KeyRecord:
    """Return a record; one that cannot be read opens nothing."""
    try:
        return KeyRecord.model_validate_json(data)
    except ValidationError as error:
        raise StateUnavailableError("a key of another version") from error
