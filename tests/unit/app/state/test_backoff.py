"""When to try again."""

from hypothesis import given
from hypothesis import strategies as st

from app.state.backoff import Backoff


def test_waits_double_up_to_the_bound() -> None:
    """Without jitter: 1, 2, 4, 4 seconds."""
    backoff, now, waits = Backoff(1, 4, jitter=lambda: 1.0), 0.0, list[int]()

    for _ in range(4):
        backoff.failed(now)
        waits.append(next(s for s in range(1, 9) if backoff.may_try(now + s)))
        now += waits[-1]

    assert waits == [1, 2, 4, 4]


def test_success_ends_the_waiting() -> None:
    """Both tell whether they are the first in a row: that is what a log needs."""
    backoff = Backoff(1, 4)
    assert [backoff.failed(0), backoff.failed(0)] == [True, False]

    assert not backoff.may_try(0)
    assert backoff.succeeded()
    assert backoff.may_try(0)
    assert not backoff.succeeded()
    assert backoff.failed(0)


def test_who_sleeps_is_told_how_long() -> None:
    """Nothing is to be waited for before a failure, or after a success."""
    backoff = Backoff(1, 4, jitter=lambda: 0.5)
    waits = [backoff.wait_s]

    for step in (backoff.failed, backoff.failed, lambda _now: backoff.succeeded()):
        step(7)
        waits.append(backoff.wait_s)

    assert waits == [0, 0.75, 1.5, 0]


@given(num_failures=st.integers(1, 2000), jitter=st.floats(0, 1))
def test_wait_is_never_over_the_bound(num_failures: int, jitter: float) -> None:
    """However long the outage is."""
    backoff = Backoff(0.25, 5, jitter=lambda: jitter)
    for _ in range(num_failures):
        backoff.failed(0)

    assert backoff.may_try(5)
    assert not backoff.may_try(0.1)
