"""Rate limits in tokens: what is limited, what a caller is told, and the Protocol of a limiter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

# Keeps every number of the limiter's arithmetic below 2**52, exact in the doubles of Lua.
MAX_TOKENS: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A bucket of `burst_tokens` that refills at `tokens_per_minute`.

    Attributes:
        name: what is limited ("key", "address"), from a closed set; no colon in it.
        subject: whose bucket it is: a hash or an id, never a raw key.
        tokens_per_minute: refill rate, 1 to `MAX_TOKENS`.
        burst_tokens: what a full bucket holds, 1 to `MAX_TOKENS`.
    """

    name: str
    subject: str
    tokens_per_minute: int
    burst_tokens: int

    def __post_init__(self) -> None:
        for field in ("tokens_per_minute", "burst_tokens"):
            value = getattr(self, field)
            if not 1 <= value <= MAX_TOKENS:
                raise ValueError(f"{field} must be from 1 to {MAX_TOKENS}, got {value}")


@dataclass(frozen=True, slots=True)
class RateLimitState:
    """What a caller may know of a limit; `reset_s` is whole seconds until the bucket is full."""

    name: str
    limit_tokens: int
    remaining_tokens: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class Reservation:
    """The answer to one request for tokens.

    Attributes:
        cost_tokens: what was asked for; charged to every limit if allowed, else to none.
        states: one per limit, in the order given, after the decision.
        retry_after_s: whole seconds, rounded up, after which the same request would pass if
            nobody else took tokens meanwhile; 0 when allowed.
    """

    is_allowed: bool
    cost_tokens: int
    states: tuple[RateLimitState, ...]
    retry_after_s: float
    limits: tuple[RateLimit, ...]


class RateLimiter(Protocol):
    """Takes tokens from several buckets at once, and gives back what was not used.

    Every method may raise `StateUnavailableError`.
    """

    async def reserve(self, limits: Sequence[RateLimit], cost_tokens: int) -> Reservation:
        """Charge `cost_tokens` to all limits, or to none when one has too few left.

        Args:
            limits: different buckets; none means allowed.
            cost_tokens: the most the request can use, >= 0.

        Raises:
            CostOverBurstError: the cost is over the burst of a limit and can never pass.
        """

    async def settle(
        self, reservation: Reservation, used_tokens: int
    ) -> tuple[RateLimitState, ...]:
        """Replace the reserved cost by `used_tokens`; call it once for each reservation.

        More than was reserved is charged too, up to a debt of one burst. A refused reservation
        was never charged and stays so. Returns the state of each limit afterwards.
        """
