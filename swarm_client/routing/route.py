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
"""Hops in order; together their blocks are all blocks of the model, each once."""


def uncovered_blocks(spans: Iterable[BlockRange], num_blocks: int) -> tuple[BlockRange, ...]:
    """Return the gaps that `spans`, all within `[0, num_blocks)`, leave there, in order."""
    gaps: list[BlockRange] = []
    covered_until = 0
    for span in sorted(spans):
        if span.start > covered_until:
            gaps.append(BlockRange(covered_until, span.start))
        covered_until = max(covered_until, span.end)
    if covered_until < num_blocks:
        gaps.append(BlockRange(covered_until, num_blocks))
    return tuple(gaps)
