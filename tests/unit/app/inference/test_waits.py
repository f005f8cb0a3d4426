"""How long servers were waited for."""

from app.inference.waits import Waits
from swarm_client.session.events import SessionEvent, WaitingForBlocks
from swarm_protocol.identifiers import BlockRange

WAITING = WaitingForBlocks((BlockRange(2, 4),), left_s=30.0)


def test_each_wait_counts_from_its_first_word_to_its_end() -> None:
    """Sessions say again for what they wait; an opening that did not wait adds nothing."""
    readings = iter([10.0, 12.0, 20.0, 21.0])
    waits = Waits(None, clock=lambda: next(readings))

    waits.hear(WAITING)
    waits.hear(WAITING)
    waits.end()
    waits.end()
    waits.hear(WAITING)
    waits.end()

    assert waits.waited_s == 3.0


def test_every_event_is_passed_on() -> None:
    """To whoever listens to the conversation."""
    heard: list[SessionEvent] = []

    Waits(heard.append).hear(WAITING)

    assert heard == [WAITING]
