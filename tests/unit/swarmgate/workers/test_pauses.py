"""When a worker that has ended is started again."""

from itertools import pairwise

from swarmgate.workers.pauses import Pauses


def test_pauses_double_up_to_half_a_minute() -> None:
    """A worker that cannot start does not keep the machine busy."""
    pauses = Pauses()

    taken = [pauses.after(1.0) for _ in range(12)]

    assert taken[0] < 0.5
    assert all(later == min(2 * earlier, 30.0) for earlier, later in pairwise(taken))
    assert taken[-1] == 30.0


def test_a_worker_that_has_lived_a_while_is_back_at_once() -> None:
    """What ended it is not what ended the one before."""
    pauses = Pauses()
    for _ in range(12):
        pauses.after(1.0)

    assert pauses.after(3600.0) < 0.5
