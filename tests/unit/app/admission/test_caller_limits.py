"""What a caller may use, and what it is told."""

from datetime import UTC, datetime

import pytest

from app.admission.caller_limits import connection_limits_of, limit_headers, limits_of, refusal_of
from app.callers import Caller
from app.errors import BudgetExhaustedError, RateLimitedError, TooManyOpenError
from app.keys.grants import ALL_SCOPES, KeyLimits
from app.settings import LimitSettings
from app.state.rate_limits import (
    Budget,
    Limit,
    LimitState,
    PlaceLimit,
    RateLimit,
    RequestLimit,
    Reservation,
)

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()
SETTINGS = LimitSettings(key_tokens_per_minute=100, key_burst_tokens=50)
NO_ADDRESS = SETTINGS.model_copy(update={"address_tokens_per_minute": 0})


def _caller(**limits: int) -> Caller:
    return Caller("k", "a", ALL_SCOPES, KeyLimits.model_validate(limits))


def test_key_without_limits_of_its_own_has_those_of_the_settings() -> None:
    """Its address has one, too."""
    limits = limits_of(_caller(), SETTINGS, NOW)

    assert limits == (
        RateLimit("key", "k", 100, 50),
        RateLimit(
            "address", "a", SETTINGS.address_tokens_per_minute, SETTINGS.address_burst_tokens
        ),
    )


def test_limits_of_a_key_win_over_those_of_the_settings() -> None:
    """Each for itself."""
    caller = _caller(tokens_per_minute=7, requests_per_minute=3, max_streams=2, monthly_tokens=1000)

    limits = limits_of(caller, NO_ADDRESS, NOW)

    december = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())
    assert limits == (
        RateLimit("key", "k", 7, 7),
        RequestLimit("key_requests", "k", 3),
        Budget("month", "k", 1000, "2026-11", december),
        PlaceLimit("key_streams", "k", 2),
    )


def test_the_budget_of_december_ends_with_the_year() -> None:
    """At midnight, UTC."""
    now = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()

    budget = limits_of(_caller(monthly_tokens=1), NO_ADDRESS, now)[1]

    assert isinstance(budget, Budget)
    assert (budget.window, budget.ends_at) == ("2026-12", int(now) + 1)


def test_caller_without_a_key_has_the_limits_of_its_address() -> None:
    """Those of keys are not asked."""
    assert [limit.name for limit in limits_of(Caller(None, "a"), SETTINGS, NOW)] == ["address"]
    assert connection_limits_of(Caller(None, "a"), SETTINGS) == ()


def test_connections_are_limited_by_key() -> None:
    """In the settings, or in the key."""
    settings = LimitSettings(key_connections=9)

    assert connection_limits_of(_caller(), settings) == (PlaceLimit("key_connections", "k", 9),)
    assert connection_limits_of(_caller(max_connections=2), settings) == (
        PlaceLimit("key_connections", "k", 2),
    )


def test_headers_tell_the_limit_of_each_unit_that_is_closest_to_its_end() -> None:
    """Places have none."""
    states = [
        LimitState("key", "tokens", 100, 50, 30),
        LimitState("address", "tokens", 80, 10, 5),
        LimitState("key_requests", "requests", 6, 5, 10),
        LimitState("key_streams", "places", 2, 0, 0),
    ]

    assert limit_headers(states) == {
        "x-ratelimit-limit-tokens": "80",
        "x-ratelimit-remaining-tokens": "10",
        "x-ratelimit-reset-tokens": "5s",
        "x-ratelimit-limit-requests": "6",
        "x-ratelimit-remaining-requests": "5",
        "x-ratelimit-reset-requests": "10s",
    }
    assert limit_headers([]) == {}


@pytest.mark.parametrize(
    ("limit", "kind"),
    [
        (RateLimit("key", "k", 1, 1), RateLimitedError),
        (RequestLimit("key_requests", "k", 1), RateLimitedError),
        (Budget("month", "k", 1, "w", 1), BudgetExhaustedError),
        (PlaceLimit("key_streams", "k", 1), TooManyOpenError),
    ],
)
def test_refusal_names_the_kind_of_limit_and_the_wait(
    limit: Limit, kind: type[RateLimitedError | TooManyOpenError]
) -> None:
    """Callers react to each in another way."""
    error = refusal_of(Reservation(False, 1, (), 17, (limit,), refused_by=limit))

    assert type(error) is kind
    assert isinstance(error, kind)
    assert error.retry_after_s == 17
