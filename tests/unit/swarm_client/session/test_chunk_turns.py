"""Chunks of a step run one behind the other, on different hops at the same time."""

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from swarm_client.session.chunk_turns import ChunkTurn, ChunkTurns
from swarm_client.session.chunks import overlapping_size


async def walk(
    turn: ChunkTurn, index: int, pauses: Sequence[int], log: list[tuple[int, int]]
) -> None:
    """Go through hops of one block each, pausing in each for some turns of the event loop."""
    for block, pause in enumerate(pauses):
        await turn.wait(block)
        log.append((index, block))
        for _ in range(pause):
            await asyncio.sleep(0)
        turn.move(block + 1)


@given(pauses=st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=5))
def test_no_chunk_overtakes_another(pauses: list[list[int]]) -> None:
    """However long each takes: every hop sees the chunks in their order."""

    async def run() -> list[tuple[int, int]]:
        turns, log = ChunkTurns(len(pauses), 0), list[tuple[int, int]]()
        await asyncio.gather(
            *(walk(turns.turn(i), i, pauses[i], log) for i in reversed(range(len(pauses))))
        )
        return log

    log = asyncio.run(run())

    for block in range(3):
        assert [index for index, at in log if at == block] == list(range(len(pauses)))


async def test_the_next_chunk_begins_before_the_last_hop_is_done() -> None:
    """It may use the first hop as soon as the first chunk is at the second."""
    turns = ChunkTurns(2, 0)
    first, second = turns.turn(0), turns.turn(1)
    waiting = asyncio.ensure_future(second.wait(0))
    await asyncio.sleep(0)
    assert not waiting.done()

    first.move(1)
    await waiting

    following = asyncio.ensure_future(second.wait(1))
    await asyncio.sleep(0)
    assert not following.done()
    following.cancel()


def test_one_hop_gets_chunks_as_large_as_may_be() -> None:
    """Nothing overlaps there."""
    assert overlapping_size(512, 1, 512) == 512
    assert overlapping_size(512, 2, 512) == 128
    assert overlapping_size(70, 2, 512) == 64
    assert overlapping_size(10_000, 2, 512) == 512
