"""A route and its hops."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from swarm_protocol.identifiers import BlockRange, PeerId


@dataclass(frozen=True, slots=True)
class Hop:
    """One span of a route: `blocks` are run by `peer`."""

    peer: PeerId
    blocks: BlockRange


Route: TypeAlias = tuple[Hop, ...]
"""Hops in order; together their blocks are all blocks that are wanted, each once."""


def uncovered_blocks(spans: Iterable[BlockRange], blocks: BlockRange) -> tuple[BlockRange, ...]:
    """Return the gaps that `spans` leave in `blocks`, in order."""
    gaps: list[BlockRange] = []
    covered_until = blocks.start
    for span in sorted(spans):
        if span.start >= blocks.end:
            break
        if span.start > covered_until:
            gaps.append(BlockRange(covered_until, span.start))
        covered_until = max(covered_until, span.end)
    if covered_until < blocks.end:
        gaps.append(BlockRange(covered_until, blocks.end))
    return tuple(gaps)
