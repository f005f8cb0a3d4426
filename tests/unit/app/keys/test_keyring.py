"""Which keys open, for whom, and while the store is away."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.access import Access
from app.errors import ExpiredKeyError, InvalidKeyError, OutOfScopeError
from app.keys.file_store import FileKeyStore
from app.keys.grants import KeyLimits, KeyScopes, KeySurface
from app.keys.keyring import Keyring, StoredKeys
from app.keys.records import KeyRecord
from app.keys.registry import KeyDraft, KeyRegistry
from app.state.errors import StateUnavailableError

ANY = Access()
ADMIN = Access(needs_admin=True)
FIXED = Keyring(
    [SecretStr("first-key"), SecretStr("second-key")], admin_keys=[SecretStr("master-key")]
)


class Outage:
    """A store of keys that can be out of reach, in front of a real one."""

    def __init__(self, store: FileKeyStore) -> None:
        self._store = store
        self.is_away = False
        self.num_asked = 0

    async def find(self, key_id: str) -> KeyRecord | None:
        """Find, if it answers."""
        self.num_asked += 1
        if self.is_away:
            raise StateUnavailableError("away")
        return await self._store.find(key_id)

    async def find_all(self) -> Sequence[KeyRecord]:
        """Find all."""
        return await self._store.find_all()

    async def replace(self, old: KeyRecord | None, new: KeyRecord) -> bool:
        """Replace."""
        return await self._store.replace(old, new)

    async def close(self) -> None:
        """Close."""


class Stored:
    """A keyring over a real store, on clocks that the test moves."""

    def __init__(self, path: Path) -> None:
        self.now = 1000.0
        self.outage = Outage(FileKeyStore(path))
        self.registry = KeyRegistry(self.outage, lambda: self.now)
        keys = StoredKeys(self.outage, cache_s=5, grace_s=60, clock=lambda: self.now)
        self.keyring = Keyring(stored=keys, clock=lambda: self.now)

    async def key_id(self, key: str, access: Access = ANY) -> str | None:
        """Identify a caller."""
        return (await self.keyring.identify(key, "10.0.0.1", access)).key_id


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """No keys yet."""
    return Stored(tmp_path / "keys.json")


async def test_each_fixed_key_is_a_caller_of_its_own() -> None:
    """The id is a hash, not the key."""
    one = await FIXED.identify("first-key", "10.0.0.1", ANY)
    two = await FIXED.identify("second-key", "10.0.0.1", ANY)

    assert one.key_id != two.key_id
    assert "first-key" not in repr(one)


@pytest.mark.parametrize("key", [None, "", "first-ke", "first-keyx", "sg_0011223344556677_x"])
async def test_missing_and_wrong_keys_are_refused(key: str | None) -> None:
    """Whatever their form."""
    with pytest.raises(InvalidKeyError):
        await FIXED.identify(key, "10.0.0.1", ANY)


async def test_without_required_keys_callers_are_their_addresses() -> None:
    """SDKs send some key in any case; nobody looks at it."""
    keyring = Keyring(is_required=False)

    caller = await keyring.identify("whatever", "10.0.0.1", ANY)

    assert caller.key_id is None


async def test_admin_api_needs_an_admin_key_even_where_others_need_none() -> None:
    """A gateway on loopback is not administered by every page in its browser."""
    keyring = Keyring(admin_keys=[SecretStr("master-key")], is_required=False)

    with pytest.raises(InvalidKeyError):
        await keyring.identify(None, "10.0.0.1", ADMIN)
    assert (await keyring.identify("master-key", "10.0.0.1", ADMIN)).scopes.is_admin


async def test_admin_keys_open_everything_and_others_not_the_admin_api() -> None:
    """An admin key need not be given twice."""
    assert (await FIXED.identify("master-key", "10.0.0.1", ANY)).key_id
    with pytest.raises(OutOfScopeError, match="the admin API"):
        await FIXED.identify("first-key", "10.0.0.1", ADMIN)


async def test_stored_key_brings_its_scopes_and_limits(stored: Stored) -> None:
    """They travel with the caller."""
    limits = KeyLimits(requests_per_minute=5, weight=2)
    scopes = KeyScopes(models=("demo",))
    new = await stored.registry.create(KeyDraft(name="one", scopes=scopes, limits=limits))

    caller = await stored.keyring.identify(new.text, "10.0.0.1", ANY)

    assert (caller.key_id, caller.scopes, caller.limits) == (new.record.id, scopes, limits)


async def test_right_id_with_a_wrong_secret_is_refused(stored: Stored) -> None:
    """The id is no secret."""
    new = await stored.registry.create(KeyDraft(name="one"))
    forged = new.text[:-1] + ("a" if new.text[-1] != "a" else "b")

    with pytest.raises(InvalidKeyError):
        await stored.key_id(forged)


async def test_key_of_one_surface_opens_no_other(stored: Stored) -> None:
    """Routes of no group are open to every key."""
    scopes = KeyScopes(surfaces=(KeySurface.OPENAI,))
    new = await stored.registry.create(KeyDraft(name="one", scopes=scopes))

    assert await stored.key_id(new.text, Access(surface=KeySurface.OPENAI))
    assert await stored.key_id(new.text, ANY)
    with pytest.raises(OutOfScopeError, match="the routes of petals"):
        await stored.key_id(new.text, Access(surface=KeySurface.PETALS))


async def test_expired_key_says_so_to_those_who_have_it(stored: Stored) -> None:
    """In the second in which it expires."""
    new = await stored.registry.create(KeyDraft(name="one", expires_in_s=10))

    stored.now += 9
    assert await stored.key_id(new.text)
    stored.now += 1
    with pytest.raises(ExpiredKeyError):
        await stored.key_id(new.text)


async def test_revoked_key_opens_until_the_store_is_asked_again(stored: Stored) -> None:
    """That is `cache_s` at most."""
    new = await stored.registry.create(KeyDraft(name="one"))
    await stored.key_id(new.text)
    await stored.registry.revoke(new.record.id)

    stored.now += 4.9
    assert await stored.key_id(new.text)
    stored.now += 0.1
    with pytest.raises(ExpiredKeyError):
        await stored.key_id(new.text)


async def test_rotated_key_opens_with_the_old_secret_for_the_grace(stored: Stored) -> None:
    """Both are the same caller."""
    old = await stored.registry.create(KeyDraft(name="one"))
    new = await stored.registry.rotate(old.record.id, grace_s=100)

    assert await stored.key_id(old.text) == await stored.key_id(new.text)
    stored.now += 100
    assert await stored.key_id(new.text)
    with pytest.raises(InvalidKeyError):
        await stored.key_id(old.text)


async def test_key_that_was_good_lately_opens_while_the_store_is_away(stored: Stored) -> None:
    """For the grace, and no longer."""
    new = await stored.registry.create(KeyDraft(name="one"))
    await stored.key_id(new.text)
    stored.outage.is_away = True

    stored.now += 59
    assert await stored.key_id(new.text)
    stored.now += 1
    with pytest.raises(StateUnavailableError):
        await stored.key_id(new.text)


async def test_nobody_new_is_let_in_while_the_store_is_away(stored: Stored) -> None:
    """It is not known whether the key is good."""
    new = await stored.registry.create(KeyDraft(name="one"))
    stored.outage.is_away = True

    with pytest.raises(StateUnavailableError):
        await stored.key_id(new.text)


async def test_store_that_is_away_is_not_asked_for_every_request(stored: Stored) -> None:
    """Each would wait for it; once it answers, keys open again."""
    new = await stored.registry.create(KeyDraft(name="one"))
    stored.outage.is_away, stored.outage.num_asked = True, 0

    for _ in range(20):
        with pytest.raises(StateUnavailableError):
            await stored.key_id(new.text)
    stored.outage.is_away = False
    stored.now += 5

    assert stored.outage.num_asked == 1
    assert await stored.key_id(new.text)


async def test_store_is_asked_once_for_many_requests_of_one_key(stored: Stored) -> None:
    """Wrong ids, too, are remembered for `cache_s`."""
    new = await stored.registry.create(KeyDraft(name="one"))
    stored.outage.num_asked = 0

    for _ in range(5):
        await stored.key_id(new.text)
        with pytest.raises(InvalidKeyError):
            await stored.key_id(f"sg_{'0' * 16}_{'x' * 43}")

    assert stored.outage.num_asked == 2
