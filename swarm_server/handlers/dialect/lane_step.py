"""One step that has arrived, in either of its two ways."""

from dataclasses import dataclass

from swarm_protocol.dialect import WANTS_PUSH
from swarm_server.engine.serving.requests import Step


@dataclass(frozen=True, slots=True, eq=False)
class LaneStep:
    """What is to be computed; all but `step`, which has the tensors, is as in the entry."""

    number: int
    position: int
    num_rows: int
    num_tokens: int
    step: Step
    flags: int = 0

    @property
    def size(self) -> int:
        """What it counts for in flow control; a step without tokens is not free."""
        return self.num_rows * max(1, self.num_tokens)

    @property
    def end(self) -> int:
        """Position after it."""
        return self.position + self.num_tokens

    @property
    def wants_push(self) -> bool:
        """Whether the outputs go on to the next server."""
        return bool(self.flags & WANTS_PUSH)
