"""How many losses are too many, and what a failed step means."""

import pytest

from swarm_client.errors import CapacityError, NoRouteError, SessionLostError
from swarm_client.routing import Hop
from swarm_client.session.losses import Losses, loss_of
from swarm_protocol.errors import DeadlineExceededError, PeerRefusedError, SwarmError
from swarm_protocol.identifiers import BlockRange, PeerId

A, B = PeerId("a"), PeerId("b")
HOP = Hop(A, BlockRange(2, 4))


def test_the_deadline_is_that_of_the_first_loss() -> None:
    """Later ones do not extend it; all peers stay excluded."""
    losses = Losses(max_losses=2, timeout_s=10)

    assert losses.add(A, cause=SwarmError(), now=100) == 110
    assert losses.add(B, cause=SwarmError(), now=105) == 110
    assert losses.failed == {A, B}


def test_one_too_many_is_raised() -> None:
    """The last cause, not the first."""
    losses = Losses(max_losses=1, timeout_s=10)
    losses.add(A, cause=SwarmError("first"), now=0)

    with pytest.raises(SwarmError, match="second"):
        losses.add(B, cause=SwarmError("second"), now=0)


def test_peers_that_are_tried_once_more_while_others_are_waited_for_count_once() -> None:
    """Time bounds how often; they may still be excluded."""
    losses = Losses(max_losses=1, timeout_s=10, wait_s=5)
    losses.add(A, cause=SwarmError(), now=0)
    for _ in range(5):
        losses.forgive([A])
        assert losses.failed == set()
        losses.add(A, cause=SwarmError(), now=0)

    with pytest.raises(SwarmError, match="another"):
        losses.add(B, cause=SwarmError("another"), now=0)
    assert losses.failed == {A, B}


def test_peers_that_do_not_answer_when_they_are_dialled_do_not_count() -> None:
    """They stay excluded, and end with the deadline."""
    losses = Losses(max_losses=0, timeout_s=10)

    assert losses.add(A, cause=SwarmError(), now=100, is_unanswered=True) == 110
    assert losses.add(B, cause=SwarmError(), now=109, is_unanswered=True) == 110
    assert losses.failed == {A, B}
    with pytest.raises(SwarmError, match="late"):
        losses.add(PeerId("c"), cause=SwarmError("late"), now=110, is_unanswered=True)


def test_the_time_for_waiting_counts_from_the_first_gap() -> None:
    """However often servers come and fail; the deadline of all repairs may be earlier."""
    losses = Losses(max_losses=5, timeout_s=8, wait_s=10)
    gap = NoRouteError([BlockRange(0, 1)])

    wait = losses.begin_waiting(now=100)
    assert losses.wait_left_s(wait, gap, now=104) == 6
    losses.end_waiting(wait, now=104)
    losses.add(A, cause=SwarmError("lost"), now=100)
    again = losses.begin_waiting(now=106)

    assert losses.wait_left_s(again, gap, now=107) == 1
    assert (losses.waited_s, losses.gap) == (4, gap)
    with pytest.raises(NoRouteError) as refused:
        losses.wait_left_s(again, gap, now=108)
    assert refused.value.__cause__ is losses.latest


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PeerRefusedError(A, "Could not allocate 5 bytes immediately"), CapacityError),
        (PeerRefusedError(A, "another fault"), SessionLostError),
        (DeadlineExceededError("Could not allocate a reply in time"), SessionLostError),
    ],
)
def test_only_a_refusal_for_want_of_memory_is_no_loss(
    error: SwarmError, expected: type[SwarmError]
) -> None:
    """The cause is chained, and the hop is named."""
    loss = loss_of(HOP, error)

    assert type(loss) is expected
    assert (loss.peer, loss.blocks, loss.__cause__) == (A, HOP.blocks, error)
