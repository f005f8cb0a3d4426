"""What every conversation store promises."""

from dataclasses import replace

import pytest

from app.state.conversations import ConversationRecord
from app.state.errors import ConversationExistsError, ConversationNotFoundError
from tests.integration.app.state.store_under_test import StoreUnderTest


def conversation(store: StoreUnderTest, ttl_s: float = 60) -> ConversationRecord:
    """Return a conversation of "me" with two tokens."""
    return ConversationRecord(
        conversation_id="c1",
        owner="me",
        model="demo/läng-8b",
        max_length=64,
        token_ids=(7, 2**32 - 1),
        position=1,
        expires_at=store.clock() + ttl_s,
    )


async def append_nine(store: StoreUnderTest, owner: str = "me", ttl_s: float = 60) -> None:
    """Add the token 9 to the conversation."""
    await store.conversations.append("c1", owner=owner, token_ids=[9], position=3, ttl_s=ttl_s)


async def test_a_conversation_is_read_as_it_was_created(store: StoreUnderTest) -> None:
    """Every field comes back, in type and value."""
    record = conversation(store)

    await store.conversations.create(record)

    assert await store.conversations.get("c1", owner="me") == record


async def test_a_conversation_may_start_without_tokens(store: StoreUnderTest) -> None:
    """An empty one exists and can be appended to."""
    await store.conversations.create(replace(conversation(store), token_ids=(), position=0))

    await append_nine(store)

    assert (await store.conversations.get("c1", owner="me")).token_ids == (9,)


async def test_an_id_is_created_once(store: StoreUnderTest) -> None:
    """Nobody can replace a conversation by creating it again, least of all a stranger."""
    await store.conversations.create(conversation(store))

    with pytest.raises(ConversationExistsError):
        await store.conversations.create(replace(conversation(store), owner="you"))

    assert (await store.conversations.get("c1", owner="me")).owner == "me"


async def test_appended_tokens_come_last_and_move_the_position(store: StoreUnderTest) -> None:
    """The rest of the record stays as it was."""
    await store.conversations.create(conversation(store))

    await append_nine(store)

    found = await store.conversations.get("c1", owner="me")
    assert (found.token_ids, found.position) == ((7, 2**32 - 1, 9), 3)
    assert (found.model, found.max_length) == ("demo/läng-8b", 64)


async def test_twenty_thousand_tokens_can_be_appended_at_once(store: StoreUnderTest) -> None:
    """A long prompt is one call, whatever limits scripts have on their arguments."""
    await store.conversations.create(conversation(store))

    await store.conversations.append(
        "c1", owner="me", token_ids=range(20_000), position=20_002, ttl_s=60
    )

    found = await store.conversations.get("c1", owner="me")
    assert found.token_ids[2:] == tuple(range(20_000))


async def test_a_stranger_finds_nothing_and_changes_nothing(store: StoreUnderTest) -> None:
    """A wrong owner gets the same answer as for a conversation that never was."""
    record = conversation(store)
    await store.conversations.create(record)

    with pytest.raises(ConversationNotFoundError):
        await store.conversations.get("c1", owner="you")
    with pytest.raises(ConversationNotFoundError):
        await append_nine(store, owner="you")
    await store.conversations.delete("c1", owner="you")

    assert await store.conversations.get("c1", owner="me") == record


async def test_what_never_was_is_not_found(store: StoreUnderTest) -> None:
    """Reading and appending say so; appending creates nothing."""
    with pytest.raises(ConversationNotFoundError) as caught:
        await store.conversations.get("c1", owner="me")
    with pytest.raises(ConversationNotFoundError):
        await append_nine(store)

    assert caught.value.conversation_id == "c1"
    assert await store.conversations.count() == 0


async def test_a_conversation_expires(store: StoreUnderTest) -> None:
    """It is there until its time and gone afterwards, and its id is free again."""
    await store.conversations.create(conversation(store, ttl_s=60))

    await store.pass_time(30)
    await store.conversations.get("c1", owner="me")
    await store.pass_time(31)

    assert await store.conversations.count() == 0
    with pytest.raises(ConversationNotFoundError):
        await store.conversations.get("c1", owner="me")
    await store.conversations.create(conversation(store))


async def test_appending_starts_the_time_anew(store: StoreUnderTest) -> None:
    """A conversation in use does not expire, and an unused one does not stay."""
    await store.conversations.create(conversation(store, ttl_s=60))

    await append_nine(store, ttl_s=200)
    await store.pass_time(199)
    await store.conversations.get("c1", owner="me")
    await store.pass_time(2)

    with pytest.raises(ConversationNotFoundError):
        await append_nine(store)


async def test_deleting_is_final_and_may_be_repeated(store: StoreUnderTest) -> None:
    """The second delete finds nothing and says nothing."""
    await store.conversations.create(conversation(store))

    await store.conversations.delete("c1", owner="me")
    await store.conversations.delete("c1", owner="me")

    assert await store.conversations.count() == 0
    with pytest.raises(ConversationNotFoundError):
        await store.conversations.get("c1", owner="me")


async def test_live_conversations_are_counted(store: StoreUnderTest) -> None:
    """Strange ids count like others and stay apart."""
    ids = ["c1", "c2", "{c1}", "c1}:tokens", "*"]

    for conversation_id in ids:
        await store.conversations.create(
            replace(conversation(store), conversation_id=conversation_id)
        )

    assert await store.conversations.count() == len(ids)
