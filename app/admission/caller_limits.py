"""What a caller may use: from its key where that says so, else from the settings. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, assert_never

from app.callers import Caller
from app.errors import BudgetExhaustedError, RateLimitedError, TooManyOpenError
from app.settings import LimitSettings
from app.state.rate_limits import (
    Budget,
    Limit,
    LimitState,
    PlaceLimit,
    RateLimit,
    RequestLimit,
    Reservation,
    Unit,
)
from swarm_protocol.errors import SwarmError

_TOLD_UNITS: Final[tuple[Unit, ...]] = ("requests", "tokens")


def limits_of(caller: Caller, settings: LimitSettings, now: float) -> tuple[Limit, ...]:
    """Return all limits of one generation; `now` is UTC seconds."""
    limits: list[Limit] = []
    if caller.key_id is not None:
        limits += _limits_of_key(caller.key_id, caller, settings, now)
    if settings.address_tokens_per_minute:
        limits.append(
            RateLimit(
                "address",
                caller.address_id,
                settings.address_tokens_per_minute,
                settings.address_burst_tokens,
            )
        )
    return tuple(limits)


def connection_limits_of(caller: Caller, settings: LimitSettings) -> tuple[Limit, ...]:
    """Return the limits of one WebSocket."""
    most = caller.limits.max_connections or settings.key_connections
    if caller.key_id is None or not most:
        return ()
    return (PlaceLimit("key_connections", caller.key_id, most),)


def limit_headers(states: Sequence[LimitState]) -> Mapping[str, str]:
    """Return the `x-ratelimit-*` headers: of each unit, the limit that is closest to its end."""
    headers = {}
    for unit in _TOLD_UNITS:
        of_unit = [state for state in states if state.unit == unit]
        if of_unit:
            tightest = min(of_unit, key=lambda state: state.remaining)
            headers[f"x-ratelimit-limit-{unit}"] = str(tightest.limit)
            headers[f"x-ratelimit-remaining-{unit}"] = str(tightest.remaining)
            headers[f"x-ratelimit-reset-{unit}"] = f"{tightest.reset_s}s"
    return headers


def refusal_of(reservation: Reservation) -> SwarmError:
    """Return the error of a reservation that is not allowed."""
    headers = limit_headers(reservation.states)
    limit, wait_s = reservation.refused_by, reservation.retry_after_s
    assert limit is not None, "it is allowed"
    match limit:
        case RateLimit() | RequestLimit():
            return RateLimitedError(wait_s, headers)
        case Budget():
            return BudgetExhaustedError(wait_s, headers)
        case PlaceLimit():
            what = "connections" if limit.name == "key_connections" else "generations"
            return TooManyOpenError(what, limit.max_places, wait_s)
    assert_never(limit)


def _limits_of_key(key_id: str, caller: Caller, settings: LimitSettings, now: float) -> list[Limit]:
    own, limits = caller.limits, list[Limit]()
    if tokens := own.tokens_per_minute or settings.key_tokens_per_minute:
        # A key's own rate holds a minute's worth; a request can be no larger than that.
        burst = own.tokens_per_minute or settings.key_burst_tokens
        limits.append(RateLimit("key", key_id, tokens, burst))
    if requests := own.requests_per_minute or settings.key_requests_per_minute:
        limits.append(RequestLimit("key_requests", key_id, requests))
    if monthly := own.monthly_tokens or settings.key_monthly_tokens:
        window, ends_at = _month(now)
        limits.append(Budget("month", key_id, monthly, window, ends_at))
    if streams := own.max_streams or settings.key_generations:
        limits.append(PlaceLimit("key_streams", key_id, streams))
    return limits


def _month(now: float) -> tuple[str, int]:
    """Return the name of the month in UTC, and when it ends."""
    today = datetime.fromtimestamp(now, UTC)
    year, month = (today.year, today.month + 1) if today.month < 12 else (today.year + 1, 1)
    return f"{today:%Y-%m}", int(datetime(year, month, 1, tzinfo=UTC).timestamp())
