"""How much streams may have in work."""

import asyncio

from swarm_server.handlers.dialect.inflight import AllInflight, InflightTokens


async def is_let_through(stream: InflightTokens) -> bool:
    """Tell whether whoever reads the stream may go on now."""
    reader = asyncio.ensure_future(stream.wait_for_room())
    await asyncio.sleep(0)
    is_through = reader.done()
    reader.cancel()
    return is_through


async def blocked_reader(stream: InflightTokens) -> asyncio.Future[None]:
    """Return who reads the stream, and must wait for room."""
    reader = asyncio.ensure_future(stream.wait_for_room())
    await asyncio.sleep(0)
    assert not reader.done()
    return reader


async def test_who_reads_waits_while_the_limit_is_reached() -> None:
    """And goes on when a reply has been sent."""
    inflight = InflightTokens(10, AllInflight(100))
    inflight.add(10)
    assert inflight.is_full
    reader = await blocked_reader(inflight)

    inflight.remove(1)

    await reader
    assert not inflight.is_full


async def test_a_stream_goes_on_within_its_share_while_others_have_too_much() -> None:
    """Two have all there is; a third may have a third of it nevertheless, and no more."""
    everywhere = AllInflight(12)
    greedy, other, modest = (InflightTokens(10, everywhere) for _ in range(3))
    greedy.add(8)
    other.add(4)
    modest.add(3)
    assert not await is_let_through(greedy)
    assert not await is_let_through(other)
    assert await is_let_through(modest)

    modest.add(1)

    assert not await is_let_through(modest)


async def test_who_waits_for_a_share_goes_on_when_others_have_less() -> None:
    """Although nothing of its own has been answered."""
    everywhere = AllInflight(12)
    greedy, other = (InflightTokens(10, everywhere) for _ in range(2))
    greedy.add(7)
    other.add(6)
    reader = await blocked_reader(greedy)

    other.remove(6)

    await reader


async def test_a_stream_that_ends_has_nothing_in_work() -> None:
    """Even if a batch still computes some of it; what comes of that counts no more."""
    everywhere = AllInflight(12)
    gone, other = (InflightTokens(20, everywhere) for _ in range(2))
    gone.add(9)
    other.add(9)
    reader = await blocked_reader(other)

    gone.leave()
    gone.remove(9)
    gone.leave()

    await reader
    assert everywhere.num_tokens == 9
