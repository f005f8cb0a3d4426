"""One step that has arrived, in either of its two ways."""

from typing import NamedTuple

from torch import Tensor

from swarm_protocol.dialect import WANTS_PUSH


class LaneStep(NamedTuple):
    """What is to be computed: `StepTensors` for the engine, and the numbers of the entry.

    `size` is what it counts for in flow control; a step without tokens is not free. A tuple,
    because a frame has many and each has to be cheap.
    """

    number: int
    position: int
    num_rows: int
    num_tokens: int
    flags: int
    size: int
    hidden: Tensor
    prompts: Tensor | None = None
    hypo_ids: Tensor | None = None

    @property
    def end(self) -> int:
        """Position after it."""
        return self.position + self.num_tokens

    @property
    def wants_push(self) -> bool:
        """Whether the outputs go on to the next server."""
        return bool(self.flags & WANTS_PUSH)
