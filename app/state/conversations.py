"""Conversations as the stores keep them: a record and the Protocol of a store; no behaviour."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ConversationRecord:
    """One conversation of one owner.

    Attributes:
        conversation_id: chosen by the creator, hard to guess.
        owner: hash or id of the caller; only the same value sees the conversation.
        max_length: tokens that fit into it.
        token_ids: prompt and output so far, each in [0, 2**32).
        position: number of tokens already in the KV cache.
        expires_at: UTC seconds; kept to the millisecond.
    """

    conversation_id: str
    owner: str
    model: str
    max_length: int
    token_ids: tuple[int, ...]
    position: int
    expires_at: float


class ConversationStore(Protocol):
    """Keeps conversations until they expire; every call is atomic.

    Every method may raise `StateUnavailableError`. To anyone but its owner a conversation
    looks as if it did not exist.
    """

    async def create(self, record: ConversationRecord) -> None:
        """Keep a new conversation until `record.expires_at`.

        Raises:
            ConversationExistsError: the id is taken; nothing has changed.
        """

    async def append(
        self,
        conversation_id: str,
        *,
        owner: str,
        token_ids: Sequence[int],
        position: int,
        ttl_s: float,
    ) -> None:
        """Add `token_ids` at the end, set `position`, and keep it for `ttl_s` from now.

        The work grows with the number of new tokens, not with the conversation.

        Raises:
            ConversationNotFoundError: gone, or owned by somebody else.
        """

    async def get(self, conversation_id: str, *, owner: str) -> ConversationRecord:
        """Return the conversation as it is now.

        Raises:
            ConversationNotFoundError: gone, or owned by somebody else.
        """

    async def delete(self, conversation_id: str, *, owner: str) -> None:
        """Forget the conversation; nothing happens when it is gone or owned by somebody else."""

    async def count(self) -> int:
        """Return how many conversations are kept, for a metric; may cost O(conversations)."""
