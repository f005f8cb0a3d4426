"""How much one stream may have in work."""

import asyncio

from swarm_server.handlers.dialect.inflight import InflightTokens


async def test_who_reads_waits_while_the_limit_is_reached() -> None:
    """And goes on when a reply has been sent."""
    inflight = InflightTokens(10)
    inflight.add(10)
    assert inflight.is_full
    reader = asyncio.ensure_future(inflight.wait_for_room())
    await asyncio.sleep(0)
    assert not reader.done()

    inflight.remove(1)

    await reader
    assert not inflight.is_full
