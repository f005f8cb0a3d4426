"""News about the swarm for those who wait for tokens: values, and as JSON. Pure.

A notice holds until the next one; callers see neither peers nor reasons.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from swarm_client.session.events import HopLost, HopRestored, SessionEvent, WaitingForBlocks
from swarm_protocol.identifiers import BlockRange


@dataclass(frozen=True, slots=True)
class Notice:
    """What the caller may know now.

    Attributes:
        name: `hop_lost`, `waiting_for_blocks` or `hop_restored`.
        blocks: which ones it is about.
        left_s: how long the session goes on waiting; None if it does not wait.
        gap_s: for which tokens stood still; None unless it is over.
    """

    name: str
    blocks: Sequence[BlockRange]
    left_s: float | None = None
    gap_s: float | None = None

    def to_json(self) -> dict[str, object]:
        """Return it as callers get it."""
        facts: dict[str, object] = {
            "type": self.name,
            "blocks": [[blocks.start, blocks.end] for blocks in self.blocks],
        }
        if self.left_s is not None:
            facts["left_s"] = round(self.left_s, 1)
        if self.gap_s is not None:
            facts["gap_s"] = round(self.gap_s, 3)
        return facts


def notice_of(event: SessionEvent) -> Notice:
    """Return what callers are told of an event."""
    match event:
        case HopLost():
            return Notice("hop_lost", (event.blocks,))
        case WaitingForBlocks():
            return Notice("waiting_for_blocks", event.missing, left_s=event.left_s)
        case HopRestored():
            return Notice("hop_restored", (event.blocks,), gap_s=event.gap_s)
