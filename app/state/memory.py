"""The store of a gateway that runs alone: everything in this process, nothing survives it."""

# ruff: noqa: D102 - the methods are described once, in their Protocols

import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from app.state import gcra
from app.state.conversations import ConversationRecord
from app.state.errors import ConversationExistsError, ConversationNotFoundError
from app.state.expiring_table import ExpiringTable
from app.state.rate_limits import RateLimit, RateLimitState, Reservation

_MAX_CONVERSATIONS: Final = 10_000
_MAX_BUCKETS: Final = 100_000


class MemoryStateStore:
    """Conversations and rate limits in memory, bounded.

    When a bound is reached, what would expire soonest is forgotten.

    Args:
        clock: returns UTC seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.conversations = MemoryConversationStore(clock)
        self.rate_limiter = MemoryRateLimiter(clock)

    async def check(self) -> None:
        """Return at once: memory is always there."""

    async def close(self) -> None:
        """Do nothing: the contents go with the object."""


@dataclass(slots=True)
class _Conversation:
    """`tokens` grows in place and is unsigned 32-bit, so 8192 of them take 32 KiB."""

    record: ConversationRecord  # as created
    tokens: "array[int]"
    position: int
    expires_at: float


class MemoryConversationStore:
    """`ConversationStore` in this process."""

    def __init__(
        self, clock: Callable[[], float], max_conversations: int = _MAX_CONVERSATIONS
    ) -> None:
        self._clock = clock
        self._table = ExpiringTable[str, _Conversation](max_conversations)

    async def create(self, record: ConversationRecord) -> None:
        now = self._clock()
        if self._table.get(record.conversation_id, now=now) is not None:
            raise ConversationExistsError(record.conversation_id)
        conversation = _Conversation(
            record, array("I", record.token_ids), record.position, record.expires_at
        )
        self._put(conversation, now)

    async def append(
        self,
        conversation_id: str,
        *,
        owner: str,
        token_ids: Sequence[int],
        position: int,
        ttl_s: float,
    ) -> None:
        now = self._clock()
        conversation = self._find(conversation_id, owner, now)
        conversation.tokens.extend(array("I", token_ids))
        conversation.position = position
        conversation.expires_at = now + ttl_s
        self._put(conversation, now)

    async def get(self, conversation_id: str, *, owner: str) -> ConversationRecord:
        conversation = self._find(conversation_id, owner, self._clock())
        return replace(
            conversation.record,
            token_ids=tuple(conversation.tokens),
            position=conversation.position,
            expires_at=conversation.expires_at,
        )

    async def delete(self, conversation_id: str, *, owner: str) -> None:
        with suppress(ConversationNotFoundError):
            self._find(conversation_id, owner, self._clock())
            self._table.remove(conversation_id)

    async def count(self) -> int:
        return self._table.count(now=self._clock())

    def _find(self, conversation_id: str, owner: str, now: float) -> _Conversation:
        conversation = self._table.get(conversation_id, now=now)
        if conversation is None or conversation.record.owner != owner:
            raise ConversationNotFoundError(conversation_id)
        return conversation

    def _put(self, conversation: _Conversation, now: float) -> None:
        self._table.put(
            conversation.record.conversation_id,
            conversation,
            expires_at=conversation.expires_at,
            now=now,
        )


class MemoryRateLimiter:
    """`RateLimiter` in this process; a bucket that is full again is forgotten."""

    def __init__(self, clock: Callable[[], float], max_buckets: int = _MAX_BUCKETS) -> None:
        self._clock = clock
        # Bucket -> the microsecond at which it is full, which is also when the entry expires.
        self._full_at_us = ExpiringTable[tuple[str, str], int](max_buckets)

    async def reserve(self, limits: Sequence[RateLimit], cost_tokens: int) -> Reservation:
        charges = gcra.charges_to_reserve(limits, cost_tokens)
        now_us = self._now_us()
        decision = gcra.decide(self._read(limits, now_us), charges, now_us)
        self._write(limits, decision)
        return gcra.reservation_of(limits, cost_tokens, decision)

    async def settle(
        self, reservation: Reservation, used_tokens: int
    ) -> tuple[RateLimitState, ...]:
        charges = gcra.charges_to_settle(reservation, used_tokens)
        if not reservation.is_allowed:
            return reservation.states
        now_us = self._now_us()
        decision = gcra.settle(self._read(reservation.limits, now_us), charges, now_us)
        self._write(reservation.limits, decision)
        return gcra.states_of(reservation.limits, decision)

    def _now_us(self) -> int:
        return round(self._clock() * gcra.MICROSECONDS_PER_S)

    def _read(self, limits: Sequence[RateLimit], now_us: int) -> list[int]:
        return [
            self._full_at_us.get((limit.name, limit.subject), now=now_us) or now_us
            for limit in limits
        ]

    def _write(self, limits: Sequence[RateLimit], decision: gcra.Decision) -> None:
        for limit, full_at_us in zip(limits, decision.full_at_us, strict=True):
            key = (limit.name, limit.subject)
            self._full_at_us.put(key, full_at_us, expires_at=full_at_us, now=decision.now_us)
