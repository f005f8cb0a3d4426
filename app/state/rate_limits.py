"""Limits of callers: what is limited, what a caller is told, and the Protocol of a limiter."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Final, Literal, Protocol

# Keeps every number of the limiter's arithmetic below 2**52, exact in the doubles of Lua.
MAX_TOKENS: Final = 10_000_000
MAX_BUDGET_TOKENS: Final = 2**50
MAX_PLACES: Final = 1_000_000
PLACE_LEASE_S: Final = 30.0
"""A place that nobody holds on to for so long is free again: its gateway has died."""

Unit = Literal["tokens", "requests", "places"]


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
        for name in ("tokens_per_minute", "burst_tokens"):
            _check(name, getattr(self, name), MAX_TOKENS)


@dataclass(frozen=True, slots=True)
class RequestLimit:
    """A bucket that holds the requests of one minute; what a request has taken stays taken."""

    name: str
    subject: str
    requests_per_minute: int

    def __post_init__(self) -> None:
        _check("requests_per_minute", self.requests_per_minute, MAX_TOKENS)


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens that may be used in one window of the calendar; nothing comes back before its end.

    Attributes:
        window: names the window, e.g. "2026-11"; no colon in it.
        ends_at: UTC seconds.
    """

    name: str
    subject: str
    max_tokens: int
    window: str
    ends_at: int

    def __post_init__(self) -> None:
        _check("max_tokens", self.max_tokens, MAX_BUDGET_TOKENS)


@dataclass(frozen=True, slots=True)
class PlaceLimit:
    """What may be open at once; a reservation holds one place until it is settled."""

    name: str
    subject: str
    max_places: int

    def __post_init__(self) -> None:
        _check("max_places", self.max_places, MAX_PLACES)


Limit = RateLimit | RequestLimit | Budget | PlaceLimit


def new_reservation_id() -> str:
    """Return an id that no other reservation has."""
    return token_hex(8)


@dataclass(frozen=True, slots=True)
class LimitState:
    """What a caller may know of a limit.

    Attributes:
        reset_s: whole seconds, rounded up, until all of it is there again; 0 for places.
    """

    name: str
    unit: Unit
    limit: int
    remaining: int
    reset_s: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """The answer to one request.

    Attributes:
        cost_tokens: what was asked for; charged to every limit if allowed, else to none.
        states: one per limit, in the order given, after the decision.
        retry_after_s: whole seconds, rounded up, after which the same request would pass if
            nobody else took anything meanwhile; 0 when allowed. A guess where places lack.
        refused_by: the limit whose wait that is; None when allowed.
        id: names it in the store.
    """

    is_allowed: bool
    cost_tokens: int
    states: tuple[LimitState, ...]
    retry_after_s: int
    limits: tuple[Limit, ...]
    refused_by: Limit | None = None
    id: str = field(default_factory=new_reservation_id, compare=False)


class RateLimiter(Protocol):
    """Takes from several limits at once, and gives back what was not used.

    Every method may raise `StateUnavailableError`.
    """

    async def reserve(self, limits: Sequence[Limit], cost_tokens: int) -> Reservation:
        """Charge one request of `cost_tokens` to all limits, or to none when one has no room.

        Args:
            limits: different ones; none means allowed.
            cost_tokens: the most the request can use, >= 0.

        Raises:
            CostOverBurstError: the cost is over what a limit ever holds, and can never pass.
        """

    async def settle(self, reservation: Reservation, used_tokens: int) -> tuple[LimitState, ...]:
        """Replace the reserved cost by `used_tokens`, and leave the places.

        More than was reserved is charged too, in a bucket up to a debt of one burst. A refused
        reservation was never charged and stays so. Returns the state of each limit afterwards.
        To be called once; again only if it raised, which then counts once, too.
        """

    async def renew(self, reservations: Sequence[Reservation]) -> None:
        """Hold on to the places of these reservations for another `PLACE_LEASE_S`."""


def _check(name: str, value: int, largest: int) -> None:
    if not 1 <= value <= largest:
        raise ValueError(f"{name} must be from 1 to {largest}, got {value}")
