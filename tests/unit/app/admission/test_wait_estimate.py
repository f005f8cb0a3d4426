"""When a turn will come."""

from app.admission.wait_estimate import WaitEstimate


def test_slots_that_become_free_every_three_seconds() -> None:
    """Two ahead, then oneself."""
    estimate = WaitEstimate()
    for began_at in range(0, 300, 3):
        estimate.filled(began_at)
        estimate.freed(began_at + 3)

    assert estimate.wait_s(num_ahead=2) == 9


def test_idle_time_does_not_count() -> None:
    """While slots are free, nobody waits for one."""
    estimate = WaitEstimate()
    estimate.filled(0)
    estimate.freed(2)
    estimate.freed(1000)

    assert estimate.wait_s(num_ahead=0) == 2


def test_estimate_is_whole_seconds_from_one_on() -> None:
    """Also when nothing is known yet, or all is fast."""
    estimate = WaitEstimate()
    assert estimate.wait_s(num_ahead=4) == 5

    estimate.filled(0)
    estimate.freed(0.001)

    assert estimate.wait_s(num_ahead=4) == 1
