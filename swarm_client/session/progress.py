"""How far a session is, and what its next message must therefore say. Pure."""

from typing import Final

from swarm_client.errors import MaxLengthExceededError
from swarm_protocol.argument_packing import structure_of
from swarm_protocol.metadata import InferenceMetadata

_ARGS_STRUCTURE: Final = structure_of(3)  # hidden states, deep prompts, hypo_ids


class Progress:
    """Position and length of a session.

    Attributes:
        position: tokens in the servers' KV caches.
        max_length: tokens they may hold.
        is_fresh: no step has succeeded, so nothing is lost if the servers are.
        batch_size: rows; None before the first step.
    """

    def __init__(
        self, *, max_length: int, session_id: str, active_adapter: str | None = None
    ) -> None:
        self.position = 0
        self.max_length = max_length
        self.is_fresh = True
        self.batch_size: int | None = None
        self._session_id = session_id
        self._active_adapter = active_adapter
        self._is_announced = False
        self._must_truncate = False

    def check_room(self, num_tokens: int) -> None:
        """Raise MaxLengthExceededError unless that many tokens fit."""
        if self.position + num_tokens > self.max_length:
            raise MaxLengthExceededError(self.position, num_tokens, self.max_length)

    def roll_back(self, position: int) -> None:
        """Forget the tokens from `position` on; the next message tells the servers."""
        if not 0 <= position <= self.position:
            raise ValueError(f"can roll back to 0..{self.position}, got {position}")
        self._must_truncate = self._must_truncate or position < self.position
        self.position = position

    def metadata(self, step_id: str) -> InferenceMetadata:
        """Return what goes with the next chunk; the first one of a stream says more."""
        return InferenceMetadata(
            session_id=self._session_id,
            step_id=step_id,
            max_length=None if self._is_announced else self.max_length,
            active_adapter=self._active_adapter,
            args_structure=_ARGS_STRUCTURE,
            start_from_position=self.position if self._must_truncate else None,
        )

    def chunk_finished(self, num_tokens: int) -> None:
        """All hops have run a chunk."""
        self.position += num_tokens
        self._is_announced = True
        self._must_truncate = False

    def step_finished(self, batch_size: int) -> None:
        """All chunks of a step are through."""
        self.is_fresh = False
        self.batch_size = batch_size

    def restart(self, session_id: str) -> None:
        """Begin again at position 0, on new streams. Only a fresh session may."""
        assert self.is_fresh, "tokens would be lost"
        self.position = 0
        self._session_id = session_id
        self._is_announced = False
