"""Choosing a window of blocks. Source: PETALS_PROTOCOL §7.2."""

from collections.abc import Iterable, Sequence

from swarm_protocol.identifiers import BlockRange
from swarm_server.placement.spans import AnnouncedSpan


def throughput_per_block(spans: Iterable[AnnouncedSpan], num_blocks: int) -> list[float]:
    """Return how many tokens per second the swarm has for each block.

    Args:
        spans: in the order of peer ids, so that every server adds up the same rounding.
        num_blocks: of the model.
    """
    throughputs = [0.0] * num_blocks
    for span in spans:
        for index in range(span.blocks.start, min(span.blocks.end, num_blocks)):
            throughputs[index] += span.throughput
    return throughputs


def choose_window(throughputs: Sequence[float], num_blocks: int) -> BlockRange:
    """Return the window of `num_blocks` whose sorted throughputs are lexicographically smallest.

    Of equal windows the first is taken. `num_blocks` is in 1..len(throughputs).
    """
    assert 0 < num_blocks <= len(throughputs)
    starts = range(len(throughputs) - num_blocks + 1)
    start = min(starts, key=lambda start: sorted(throughputs[start : start + num_blocks]))
    return BlockRange(start, start + num_blocks)
