"""What was acknowledged survives, and what cannot be read opens nothing."""

import stat
from pathlib import Path

import pytest

from app.keys.errors import KeysUnreadableError
from app.keys.registry import KeyDraft, KeyRegistry
from app.keys.store import open_key_store
from app.state.errors import StateUnavailableError
from tests.harness.redis_server import redis_server


async def test_key_that_was_made_survives_the_death_of_redis() -> None:
    """It was on disk before its maker heard of it."""
    with redis_server(keeps_data=True) as server:
        store = open_key_store(server.url, None)
        assert store is not None
        new = await KeyRegistry(store).create(KeyDraft(name="one"))

        server.kill()
        with pytest.raises(StateUnavailableError):
            await store.find(new.record.id)
        server.restart()

        assert await store.find(new.record.id) == new.record
        await store.close()


async def test_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """And is a file that a person can read."""
    path = tmp_path / "secret" / "keys.json"
    store = open_key_store(None, path)
    assert store is not None

    await KeyRegistry(store).create(KeyDraft(name="one"))

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert '"name": "one"' in path.read_text()


async def test_broken_file_is_an_error_and_is_not_overwritten(tmp_path: Path) -> None:
    """Somebody may want to repair it."""
    path = tmp_path / "keys.json"
    path.write_text("[{")
    store = open_key_store(None, path)
    assert store is not None

    with pytest.raises(KeysUnreadableError, match="it is no list of keys"):
        await KeyRegistry(store).create(KeyDraft(name="one"))
    assert path.read_text() == "[{"
