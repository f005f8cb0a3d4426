"""How many losses are too many, and what a failed step means."""

import pytest

from swarm_client.errors import CapacityError, SessionLostError
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
