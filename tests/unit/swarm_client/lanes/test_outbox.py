"""What leaves on a lane, and when."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from swarm_client.lanes.outbox import LaneStep, Outbox
from swarm_protocol.dialect import Opening, StepEntry
from swarm_protocol.identifiers import BlockRange


def step_of(session_id: int, num_tokens: int = 1) -> LaneStep:
    entry = StepEntry(session_id, 1, 0, 1, num_tokens)
    return LaneStep(entry, torch.zeros(1, num_tokens, 2))


def opening_of(session_id: int) -> Opening:
    return Opening(session_id, BlockRange(0, 1), max_length=9, num_rows=1, token=bytes(16))


def sent_ids(outbox: Outbox) -> list[int]:
    return [step.entry.session_id for step in outbox.next_mail().steps]


def test_all_that_has_come_together_leaves_in_one_mail() -> None:
    """Openings before steps, so a session's first step may come with its opening."""
    outbox = Outbox(max_frame_tokens=10, good_frame_tokens=10, max_inflight_tokens=20)
    outbox.open(opening_of(1))
    for session_id in (1, 2, 3):
        outbox.add(step_of(session_id))

    mail = outbox.next_mail()

    assert [opening.session_id for opening in mail.openings] == [1]
    assert [step.entry.session_id for step in mail.steps] == [1, 2, 3]
    assert not any(outbox.next_mail())


def test_decode_steps_leave_before_prefills_that_came_earlier() -> None:
    """Somebody is reading along with them."""
    outbox = Outbox(max_frame_tokens=5, good_frame_tokens=5, max_inflight_tokens=20)
    outbox.add(step_of(1, num_tokens=5))
    outbox.add(step_of(2))

    assert sent_ids(outbox) == [2]
    assert sent_ids(outbox) == [1]


def test_prompts_leave_in_frames_that_are_not_too_large() -> None:
    """So that the first are computed while others are on their way; one alone may be larger."""
    outbox = Outbox(max_frame_tokens=16, good_frame_tokens=8, max_inflight_tokens=64)
    for session_id, num_tokens in enumerate((4, 4, 4, 9, 2, 2)):
        outbox.add(step_of(session_id, num_tokens=num_tokens))

    assert [sent_ids(outbox) for _ in range(4)] == [[0, 1], [2], [3], [4, 5]]
    assert not outbox.has_waiting


def test_steps_wait_while_as_many_tokens_are_under_way_as_the_server_takes() -> None:
    """An answer makes room for the next one, in order."""
    outbox = Outbox(max_frame_tokens=8, good_frame_tokens=8, max_inflight_tokens=16)
    for session_id in (1, 2, 3):
        outbox.add(step_of(session_id, num_tokens=4))

    assert sent_ids(outbox) == [1, 2]
    assert outbox.has_waiting
    assert not any(outbox.next_mail())
    assert outbox.answered([1]) == 4
    assert sent_ids(outbox) == [3]
    assert not outbox.has_waiting


def test_prefills_under_way_leave_room_for_decode_steps() -> None:
    """Half of the tokens is theirs, so neither kind waits for the other."""
    outbox = Outbox(max_frame_tokens=8, good_frame_tokens=8, max_inflight_tokens=16)
    outbox.add(step_of(1, num_tokens=8))
    sent_ids(outbox)

    outbox.add(step_of(2))

    assert sent_ids(outbox) == [2]


def test_the_server_hears_of_a_cancelled_step_only_if_it_has_it() -> None:
    """One that waited is just not sent."""
    outbox = Outbox(max_frame_tokens=8, good_frame_tokens=8, max_inflight_tokens=16)
    outbox.add(step_of(1))
    outbox.next_mail()
    outbox.add(step_of(2))

    outbox.cancel(1)
    outbox.cancel(2)

    mail = outbox.next_mail()
    assert mail.cancelled == [1]
    assert not mail.steps


def test_a_step_that_was_answered_before_it_has_left_stays() -> None:
    """The server before has pushed it; the server would not answer it again."""
    outbox = Outbox(max_frame_tokens=8, good_frame_tokens=8, max_inflight_tokens=16)
    outbox.add(step_of(1))

    assert outbox.answered([1]) == 0

    assert not any(outbox.next_mail())
    outbox.check_integrity()


def test_a_session_that_was_never_announced_needs_no_end() -> None:
    """Its opening is taken back."""
    outbox = Outbox(max_frame_tokens=8, good_frame_tokens=8, max_inflight_tokens=16)
    outbox.open(opening_of(1))

    outbox.close(1)

    assert not any(outbox.next_mail())


@given(
    calls=st.lists(
        st.tuples(st.sampled_from(["add", "send", "answer", "cancel"]), st.integers(1, 6)),
        max_size=80,
    )
)
def test_every_step_leaves_once_within_the_limits_under_any_order_of_calls(
    calls: list[tuple[str, int]],
) -> None:
    """Unless it was answered or cancelled before."""
    outbox = Outbox(max_frame_tokens=6, good_frame_tokens=4, max_inflight_tokens=12)
    waiting, under_way = set[int](), set[int]()
    for call, number in calls:
        if call == "add" and number not in waiting | under_way:
            outbox.add(step_of(number, num_tokens=number))
            waiting.add(number)
        elif call == "send":
            sent = outbox.next_mail().steps
            assert sum(step.size for step in sent) <= 6
            prompts = [step.size for step in sent if step.entry.num_tokens > 1]
            assert len(prompts) <= 1 or sum(prompts) <= 4
            under_way |= {step.entry.session_id for step in sent}
            waiting -= under_way
        elif call == "answer":
            assert outbox.answered([number]) == (number if number in under_way else 0)
            waiting.discard(number)
            under_way.discard(number)
        elif call == "cancel":
            outbox.cancel(number)
            waiting.discard(number)
            under_way.discard(number)
        outbox.check_integrity()
    for number in list(under_way):
        outbox.answered([number])
    left = set[int]()
    while sent_now := outbox.next_mail().steps:
        for step in sent_now:
            left.add(step.entry.session_id)
            outbox.answered([step.entry.session_id])
    assert left == waiting
