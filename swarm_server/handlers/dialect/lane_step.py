"""One step that has arrived, in either of its two ways."""

from dataclasses import dataclass

from swarm_protocol.dialect import WANTS_PUSH
from swarm_server.engine.span import Step


@dataclass(frozen=True, slots=True, eq=False)
class LaneStep:
    """What is to be computed; `number`, `position` and `flags` are the client's."""

    number: int
    position: int
    step: Step
    flags: int = 0

    @property
    def num_rows(self) -> int:
        """Rows of the batch."""
        return self.step.hidden.shape[0]

    @property
    def num_tokens(self) -> int:
        """Tokens of each row."""
        return self.step.hidden.shape[1]

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
