"""Finds who is behind a key: one of the settings, or one that is stored."""

import hmac
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import structlog
from pydantic import SecretStr

from app.access import Access
from app.callers import Caller, address_id_of
from app.errors import ExpiredKeyError, InvalidKeyError, OutOfScopeError
from app.keys.errors import KeysUnreadableError
from app.keys.grants import ALL_SCOPES, KeyScopes
from app.keys.records import KeyRecord, digest_of, key_id_of
from app.keys.store import KeyStore
from app.state.backoff import Backoff
from app.state.errors import StateUnavailableError
from app.state.expiring_table import ExpiringTable

log = structlog.get_logger(__name__)

_MAX_KNOWN: Final = 10_000
_FIRST_WAIT_S: Final = 0.25
_MAX_WAIT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Known:
    """What the store said of an id; None: there is no such key."""

    record: KeyRecord | None
    asked_at: float


class StoredKeys:
    """Records of stored keys, remembered for a short time.

    Args:
        cache_s: for so long the store is not asked again; a revoked key opens no longer.
        grace_s: for so long a record counts that the store cannot confirm, being away.
        clock: returns seconds that only grow.
    """

    def __init__(
        self,
        store: KeyStore,
        *,
        cache_s: float,
        grace_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._cache_s = cache_s
        self._grace_s = max(cache_s, grace_s)
        self._clock = clock
        self._known = ExpiringTable[str, _Known](_MAX_KNOWN)
        self._backoff = Backoff(_FIRST_WAIT_S, _MAX_WAIT_S)

    async def find(self, key_id: str) -> KeyRecord | None:
        """Return the record of a key.

        Raises:
            StateUnavailableError, KeysUnreadableError: the store does not answer, and has not
                lately. Nobody is let in on trust.
        """
        now = self._clock()
        known = self._known.get(key_id, now=now)
        if known is not None and now - known.asked_at < self._cache_s:
            return known.record
        try:
            record = await self._ask(key_id, now)
        except (StateUnavailableError, KeysUnreadableError):
            if known is None or known.record is None:
                raise
            return known.record
        keep_s = self._cache_s if record is None else self._grace_s
        self._known.put(key_id, _Known(record, now), expires_at=now + keep_s, now=now)
        return record

    async def _ask(self, key_id: str, now: float) -> KeyRecord | None:
        """Ask the store, but not again and again while it does not answer."""
        if not self._backoff.may_try(now):
            raise StateUnavailableError("asked again later")
        try:
            record = await self._store.find(key_id)
        except (StateUnavailableError, KeysUnreadableError) as error:
            self._backoff.failed(now)
            log.warning("keys_are_away", error=error.code)
            raise
        self._backoff.succeeded()
        return record


class Keyring:
    """The keys callers may have.

    Args:
        api_keys: of the settings; they open all but the admin API.
        admin_keys: of the settings; they open that, too.
        stored: those that are stored, if any are.
        is_required: whether callers need a key. Where they do not, keys are not looked at, except
            for the admin API, which nobody enters without one.
        clock: returns UTC seconds.
    """

    def __init__(
        self,
        api_keys: Iterable[SecretStr] = (),
        *,
        admin_keys: Iterable[SecretStr] = (),
        stored: StoredKeys | None = None,
        is_required: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        admin = KeyScopes(is_admin=True)
        self._fixed = [
            (digest_of(key.get_secret_value()), scopes)
            for keys, scopes in ((api_keys, ALL_SCOPES), (admin_keys, admin))
            for key in keys
        ]
        self._stored = stored
        self._is_required = is_required
        self._clock = clock

    async def identify(self, key: str | None, address: str | None, access: Access) -> Caller:
        """Return the caller that sends `key` from `address`.

        Raises:
            InvalidKeyError: a key is needed, and missing, wrong or expired.
            OutOfScopeError: the key is right, and not for this.
            StateUnavailableError, KeysUnreadableError: nobody knows whether it is right.
        """
        address_id = address_id_of(address)
        if not self._is_required and not access.needs_admin:
            return Caller(None, address_id)
        if not key:
            raise InvalidKeyError
        caller = self._identify_fixed(key, address_id)
        if caller is None:
            caller = await self._identify_stored(key, address_id)
        if access.needs_admin and not caller.scopes.is_admin:
            raise OutOfScopeError("the admin API")
        if not caller.scopes.allow_surface(access.surface):
            raise OutOfScopeError(f"the routes of {access.surface}")
        return caller

    def _identify_fixed(self, key: str, address_id: str) -> Caller | None:
        """Every key is compared, each in constant time, so that the time tells nothing."""
        given = digest_of(key)
        matches = [scopes for digest, scopes in self._fixed if hmac.compare_digest(given, digest)]
        return Caller(given.hex()[:32], address_id, matches[-1]) if matches else None

    async def _identify_stored(self, key: str, address_id: str) -> Caller:
        key_id = key_id_of(key)
        if self._stored is None or key_id is None:
            raise InvalidKeyError
        record, now = await self._stored.find(key_id), self._clock()
        if record is None or not record.matches(digest_of(key), now):
            raise InvalidKeyError
        if not record.is_live(now):
            raise ExpiredKeyError
        return Caller(record.id, address_id, record.scopes, record.limits)
