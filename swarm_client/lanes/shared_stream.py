"""What a session needs of its lane; no behaviour."""

from typing import Protocol

import torch

from swarm_client.lanes.deadlines import Deadlines
from swarm_client.lanes.outbox import LaneStep
from swarm_protocol.dialect import Opening


class SharedStream(Protocol):
    """A lane, as its sessions see it."""

    @property
    def deadlines(self) -> Deadlines:
        """Of all its sessions."""

    @property
    def dtype(self) -> torch.dtype:
        """Of hidden states, both ways."""

    @property
    def max_step_tokens(self) -> int:
        """Tokens over all rows that one step may have."""

    @property
    def page_size(self) -> int:
        """Tokens of a page of KV memory: prefixes are shared by whole ones."""

    @property
    def step_flags(self) -> int:
        """Of steps, that the server heeds."""

    def open(self, opening: Opening) -> None:
        """Announce a session, with the next frames."""

    def submit(self, step: LaneStep) -> None:
        """Send a step, in one frame with all others of this moment."""

    def cancel(self, session_id: int) -> None:
        """Say that nobody waits for the session's step any more."""

    def leave(self, session_id: int) -> None:
        """Give the session's place up; the server frees its memory."""
