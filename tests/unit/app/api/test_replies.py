"""With which status an error is answered on the oldest surface."""

import pytest

from app.api.replies import petals_v1_status
from app.errors import (
    BodyTooLargeError,
    BudgetExhaustedError,
    DrainingError,
    ExpiredKeyError,
    InvalidKeyError,
    OutOfScopeError,
    QueueFullError,
    QueueTimeoutError,
    RateLimitedError,
    TooManyOpenError,
    TooManyWaitingError,
    describe_error,
)
from app.state.errors import CostOverBurstError, StateUnavailableError
from swarm_client.errors import NoRouteError
from swarm_protocol.errors import SwarmError


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidKeyError(), 401),
        (ExpiredKeyError(), 401),
        (OutOfScopeError("this"), 403),
        (BodyTooLargeError(1), 413),
        (RateLimitedError(1, {}), 429),
        (BudgetExhaustedError(1, {}), 429),
        (TooManyOpenError("generations", 1), 429),
        (TooManyWaitingError(1, 1), 429),
        (QueueFullError(1, 1), 503),
        (QueueTimeoutError(1, 1), 503),
        (StateUnavailableError("TimeoutError"), 503),
        (DrainingError(), 503),
    ],
)
def test_what_is_refused_at_the_door_has_its_status(error: SwarmError, status: int) -> None:
    """Balancers, monitors and retries look at it, whatever the dialect's clients do."""
    assert petals_v1_status(describe_error(error)) == status


@pytest.mark.parametrize("error", [NoRouteError([]), CostOverBurstError("key", 2, 1), KeyError()])
def test_what_goes_wrong_behind_the_door_is_told_with_status_200(error: Exception) -> None:
    """Clients of Petals look into the body only."""
    assert petals_v1_status(describe_error(error)) == 200
