"""One step that has arrived, in either of its two ways."""

from typing import NamedTuple

from swarm_protocol.dialect import WANTS_PUSH
from swarm_server.engine.serving.requests import Step


class LaneStep(NamedTuple):
    """What is to be computed; numbers are as in the entry, and `step` has the tensors.

    `size` is what it counts for in flow control; a step without tokens is not free. A tuple,
    because a frame has many and each has to be cheap.
    """

    number: int
    position: int
    num_rows: int
    num_tokens: int
    flags: int
    size: int
    step: Step

    @property
    def end(self) -> int:
        """Position after it."""
        return self.position + self.num_tokens

    @property
    def wants_push(self) -> bool:
        """Whether the outputs go on to the next server."""
        return bool(self.flags & WANTS_PUSH)
