"""Makes, lists, rotates and revokes stored keys."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from app.keys.errors import KeyNotFoundError
from app.keys.grants import ALL_SCOPES, DEFAULT_LIMITS, KeyLimits, KeyScopes
from app.keys.records import KeyRecord, KeySecret, digest_of, new_key_id, new_key_text
from app.keys.store import KeyStore

MAX_GRACE_S: Final = 30 * 86_400
_MAX_SECRETS: Final = 8


class KeyDraft(BaseModel):
    """What a new key shall be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=100, description="Whose it is, or what for.")
    scopes: KeyScopes = ALL_SCOPES
    limits: KeyLimits = DEFAULT_LIMITS
    expires_in_s: int | None = Field(
        default=None, ge=1, le=10 * 366 * 86_400, description="Unset: it does not expire."
    )


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was made just now. `text` is what its callers send; it cannot be had again."""

    record: KeyRecord
    text: str


class KeyRegistry:
    """The keys of one store. Methods raise what the store raises.

    Args:
        clock: returns UTC seconds.
    """

    def __init__(self, store: KeyStore, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def create(self, draft: KeyDraft) -> NewKey:
        """Make a key; when this returns, it is stored."""
        key_id, now = new_key_id(), int(self._clock())
        text = new_key_text(key_id)
        record = KeyRecord(
            id=key_id,
            name=draft.name,
            secrets=(_secret_of(text),),
            scopes=draft.scopes,
            limits=draft.limits,
            created_at=now,
            expires_at=None if draft.expires_in_s is None else now + draft.expires_in_s,
        )
        if not await self._store.replace(None, record):
            raise AssertionError("64 random bits came twice")
        return NewKey(record, text)

    async def find_all(self) -> Sequence[KeyRecord]:
        """Return all keys, oldest first, those that are revoked or expired included."""
        return await self._store.find_all()

    async def find(self, key_id: str) -> KeyRecord:
        """Return one key.

        Raises:
            KeyNotFoundError: there is none of this id.
        """
        record = await self._store.find(key_id)
        if record is None:
            raise KeyNotFoundError(key_id)
        return record

    async def revoke(self, key_id: str) -> KeyRecord:
        """End a key; one that has ended stays so. Gateways notice within `keys.cache_s`.

        Raises:
            KeyNotFoundError: there is none of this id.
        """
        now = int(self._clock())
        return await self._change(
            key_id,
            lambda record: record.model_copy(update={"revoked_at": record.revoked_at or now}),
        )

    async def rotate(self, key_id: str, *, grace_s: int = 0) -> NewKey:
        """Give a key a new secret. The old ones open for another `grace_s`; all else stays.

        Raises:
            KeyNotFoundError: there is none of this id, or it was revoked.
        """
        text, now = new_key_text(key_id), int(self._clock())

        def rotated(record: KeyRecord) -> KeyRecord:
            if record.revoked_at is not None:
                raise KeyNotFoundError(key_id)
            old = [_until(secret, now + grace_s) for secret in record.secrets]
            still_good = [s for s in old if s.expires_at is not None and s.expires_at > now]
            secrets = (_secret_of(text), *still_good[: _MAX_SECRETS - 1])
            return record.model_copy(update={"secrets": secrets})

        return NewKey(await self._change(key_id, rotated), text)

    async def _change(self, key_id: str, change: Callable[[KeyRecord], KeyRecord]) -> KeyRecord:
        """Replace a record; when somebody else did so meanwhile, begin again."""
        while True:
            old = await self.find(key_id)
            new = change(old).model_copy(update={"version": old.version + 1})
            if await self._store.replace(old, new):
                return new


def _secret_of(text: str) -> KeySecret:
    return KeySecret(digest=digest_of(text).hex())


def _until(secret: KeySecret, expires_at: int) -> KeySecret:
    sooner = expires_at if secret.expires_at is None else min(secret.expires_at, expires_at)
    return KeySecret(digest=secret.digest, expires_at=sooner)
