"""Where keys are kept: one Protocol, a store in Redis and one in a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from app.keys.file_store import FileKeyStore
from app.keys.records import KeyRecord
from app.keys.redis_store import RedisKeyStore
from app.state.redis.connection import RedisConnection


class KeyStore(Protocol):
    """Keeps records of keys. Every method may raise `StateUnavailableError`."""

    async def find(self, key_id: str) -> KeyRecord | None:
        """Return one record."""

    async def find_all(self) -> Sequence[KeyRecord]:
        """Return all records, oldest first."""

    async def replace(self, old: KeyRecord | None, new: KeyRecord) -> bool:
        """Store `new` in the place of `old`, None being a new key.

        Returns whether that was done: not if the stored record has another version than `old`.
        What was done is on disk, if the store has one.
        """

    async def close(self) -> None:
        """Give back what is open; idempotent."""


def open_key_store(redis_url: str | None, path: Path | None) -> KeyStore | None:
    """Return the store in a file, else the one in Redis, else None: keys are not stored.

    Nothing is dialled or read yet.

    Raises:
        InvalidStateUrlError: the address cannot be understood.
    """
    if path is not None:
        return FileKeyStore(path)
    return None if redis_url is None else RedisKeyStore(RedisConnection(redis_url, timeout_s=1.0))
