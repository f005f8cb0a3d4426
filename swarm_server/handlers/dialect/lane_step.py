"""One step that has arrived, in either of its two ways."""

from typing import NamedTuple

from torch import Tensor

from swarm_protocol.dialect import PushedEntry, StepEntry
from swarm_protocol.rows import Rows


class LaneStep(NamedTuple):
    """What is to be computed: `StepTensors` for the engine, and the entry that it came with.

    `size` is what it counts for in flow control; a step without tokens is not free. `only_last`
    is what comes of the entry's flag in its session. A tuple, because a frame has many and each
    has to be cheap.
    """

    entry: StepEntry | PushedEntry
    size: int
    rows: Rows
    prompts: Tensor | None = None
    hypo_ids: Tensor | None = None
    only_last: bool = False

    @property
    def end(self) -> int:
        """Position after it."""
        return self.entry.position + self.entry.num_tokens
