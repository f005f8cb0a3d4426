"""What every board promises."""

from app.state.board import LEASE_S, OFFER_S
from tests.integration.app.state.store_under_test import StoreUnderTest


async def test_one_worker_leads_as_long_as_it_looks(store: StoreUnderTest) -> None:
    """However often the others look."""
    term = (await store.board.look("a")).term

    for _ in range(4):
        await store.pass_time(LEASE_S - 1)
        assert (await store.board.look("a")).term == term
        assert (await store.board.look("b")).term is None

    assert term is not None


async def test_a_silent_leader_is_followed_by_another_with_a_higher_number(
    store: StoreUnderTest,
) -> None:
    """And leads no more when it comes back."""
    old = (await store.board.look("a")).term
    await store.pass_time(LEASE_S + 1)

    new = (await store.board.look("b")).term

    assert old is not None
    assert new is not None
    assert new > old
    assert (await store.board.look("a")).term is None


async def test_a_leader_that_resigns_is_followed_at_once(store: StoreUnderTest) -> None:
    """Others cannot resign for it."""
    await store.board.look("a")
    await store.board.resign("b")
    assert (await store.board.look("b")).term is None

    await store.board.resign("a")

    assert (await store.board.look("b")).term is not None


async def test_all_workers_see_what_the_leader_has_found(store: StoreUnderTest) -> None:
    """Bytes of any kind, with their age; a later finding replaces the one of its name."""
    term = (await store.board.look("a")).term
    assert term is not None

    assert await store.board.publish(term, {"demo": b"old", "other": b"\xff:\x00"})
    assert await store.board.publish(term, {"demo": b"new"})

    findings = (await store.board.look("b")).findings
    assert {name: finding.value for name, finding in findings.items()} == {
        "demo": b"new",
        "other": b"\xff:\x00",
    }
    assert all(0 <= finding.age_s < 5 for finding in findings.values())


async def test_a_leader_of_old_publishes_nothing(store: StoreUnderTest) -> None:
    """Neither after its lease nor in the term of another."""
    old = (await store.board.look("a")).term
    assert old is not None
    await store.pass_time(LEASE_S + 1)

    assert not await store.board.publish(old, {"demo": b"stale"})
    await store.board.look("b")
    assert not await store.board.publish(old, {"demo": b"stale"})

    assert (await store.board.look("b")).findings == {}


async def test_changes_of_the_offer_last_as_long_as_somebody_looks(store: StoreUnderTest) -> None:
    """A while longer, so that all may be restarted; then the settings count again."""
    await store.board.change_offer("demo", b"gone")
    await store.board.change_offer("demo", b"back")
    for _ in range(3):
        await store.pass_time(OFFER_S - 1)
        assert (await store.board.look("a")).offer == {"demo": b"back"}

    await store.pass_time(OFFER_S + 1)

    assert (await store.board.look("a")).offer == {}
